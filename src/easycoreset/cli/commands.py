"""The commands. Each imports its modules when it is called, so that help and `select` start fast."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from easycoreset.cli.comparison_output import results_table, show_comparison, show_declared, show_demo, show_estimate
from easycoreset.cli.flags import convert_flag, show_default
from easycoreset.cli.output import (
    Output,
    show_analysis,
    show_audit,
    show_doctor,
    show_evaluation,
    show_prediction,
    show_report,
    show_run,
    show_run_comparison,
    show_selection,
)
from easycoreset.errors import GridError, RunError
from easycoreset.options import (
    AnalyzeOptions,
    AuditOptions,
    CompareOptions,
    EvaluateOptions,
    ExportOptions,
    PipelineOptions,
    PredictOptions,
    ReportOptions,
    ScoreOptions,
    SelectOptions,
    TrainOptions,
)
from easycoreset.records import read_record

Flat = Parameter(name="*")


def _version() -> str:
    from importlib.metadata import version

    return version("easycoreset")


app = App(
    name="easycoreset",
    help="Choose training data for robustness.",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(converter=convert_flag, n_tokens=1, negative_iterable=(), show_default=show_default),
)


@app.command
def demo(*, out: Path, workers: int = 2, overwrite: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Run the whole method on the bundled digits, in about a minute on two cores.

    Args:
        out: folder where the results are written.
        workers: number of worker processes, one thread each.
        overwrite: replace another experiment in the folder.
    """
    from easycoreset.reporting import check_page_writable
    from easycoreset.reporting import report as run_report
    from easycoreset.workflow.comparing import run_comparison

    check_page_writable(out)
    results = run_comparison(CompareOptions(recipe="digits", workers=workers, overwrite=overwrite, out=out))
    run_report(out=out)
    show_demo(results, out)


@app.command
def run(options: Annotated[PipelineOptions, Flat]) -> None:
    """Make a report from a folder of labelled images: score, audit, select, train, evaluate."""
    from easycoreset.reporting import check_page_writable
    from easycoreset.reporting import report as run_report
    from easycoreset.workflow.estimate import estimate
    from easycoreset.workflow.running import plan_run
    from easycoreset.workflow.running import run as run_all

    if options.dry_run:
        steps = list(plan_run(options)[1].values())
        show_estimate(estimate(steps, options.out, options.device, options.workers or 1))
        return
    check_page_writable(options.out)
    comparison = run_all(**vars(options))
    if comparison is not None:
        run_report(out=options.out)
        show_run_comparison(comparison, options.out)


@app.command
def compare(options: Annotated[CompareOptions, Flat]) -> None:
    """Compare methods over data, models, fractions, objectives, budgets, seeds and any option, or by a recipe.

    Any option of another step is --STEP.OPTION (`--score.epochs 30`); several values of an option are an axis (--vary).
    """
    from easycoreset.reporting import check_page_writable
    from easycoreset.reporting import report as run_report
    from easycoreset.workflow.comparing import WORKERS, plan_comparison, preregister_comparison, run_comparison
    from easycoreset.workflow.estimate import estimate

    if options.dry_run:
        plan = plan_comparison(options)
        show_estimate(estimate(plan.targets, options.out, options.device, options.workers or WORKERS))
        return
    check_page_writable(options.out)
    if options.preregister:
        show_declared(preregister_comparison(options), options.out)
        return
    try:
        run_comparison(options, render_progress=results_table)
    except GridError:  # the finished cells are still reported
        run_report(out=options.out)
        raise
    run_report(out=options.out)
    show_comparison(options.out)


@app.command
def score(options: Annotated[ScoreOptions, Flat]) -> None:
    """Train a model and score how hard every sample is."""
    from easycoreset.scoring import score as run_scoring
    from easycoreset.scoring import scores_file

    scores = run_scoring(**vars(options))
    show_run(read_record(options.out / "run.json"), scores_file(options.out, options.split), scores)


@app.command
def select(options: Annotated[SelectOptions, Flat]) -> None:
    """Select a coreset by scores."""
    from easycoreset.selection import select as run_selection

    coreset = run_selection(**vars(options))
    show_selection(read_record(options.out.with_suffix(".json")), coreset, options.out)


@app.command
def train(options: Annotated[TrainOptions, Flat]) -> None:
    """Train on a coreset or on all data, by an objective."""
    from easycoreset.training import train as run_training

    run_training(**vars(options))
    show_run(read_record(options.out / "run.json"), options.out / "model.safetensors")


@app.command
def evaluate(options: Annotated[EvaluateOptions, Flat]) -> None:
    """Measure clean and adversarial accuracy, with checks of the attack."""
    from easycoreset.evaluation import evaluate as run_evaluation

    result = run_evaluation(**vars(options))
    show_evaluation(read_record(options.out / "evaluation.json"), options.out)
    if options.strict and result.warnings:
        raise RunError(f"strict: {len(result.warnings)} of {len(result.checks)} checks give a warning")


@app.command
def analyze(options: Annotated[AnalyzeOptions, Flat]) -> None:
    """Test whether easy samples are less vulnerable, far from the boundary, and easy for every model."""
    from easycoreset.reporting import check_page_writable
    from easycoreset.reporting import report as run_report
    from easycoreset.workflow.analyzing import Analysis
    from easycoreset.workflow.analyzing import analyze as run_analysis
    from easycoreset.workflow.estimate import estimate

    if options.dry_run:
        steps = list(Analysis(options).steps.values())
        show_estimate(estimate(steps, options.out, options.device, options.workers or 1))
        return
    check_page_writable(options.out)
    analysis = run_analysis(**vars(options))
    if analysis is not None:
        run_report(out=options.out)
        show_analysis(analysis, options.out)


@app.command
def audit(options: Annotated[AuditOptions, Flat]) -> None:
    """Find hard, likely mislabelled, duplicate and unreadable samples; nothing is deleted."""
    from easycoreset.auditing import audit as run_audit
    from easycoreset.reporting import check_page_writable
    from easycoreset.reporting import report as run_report

    check_page_writable(options.out)
    table = run_audit(**vars(options))
    run_report(out=options.out)
    show_audit(read_record(options.out / "run.json"), table, options.out)


@app.command
def predict(options: Annotated[PredictOptions, Flat]) -> None:
    """Predict labels of unlabelled images."""
    from easycoreset.predicting import predict as run_prediction

    run_prediction(**vars(options))
    show_prediction(read_record(options.out / "run.json"), options.out / "labels.parquet")


@app.command
def report(options: Annotated[ReportOptions, Flat]) -> None:
    """Write one offline HTML page of the results in a folder."""
    from easycoreset.reporting import report as run_report

    show_report(run_report(**vars(options)))


@app.command
def export(options: Annotated[ExportOptions, Flat]) -> None:
    """Export results in a format that other tools read."""
    from easycoreset.exporting import export as run_export

    show_report(run_export(**vars(options)))


@app.command
def doctor() -> None:
    """Show versions, devices, threads, optional packages, and the speed of this machine."""
    from easycoreset.doctor import diagnose

    show_doctor(diagnose())


__all__ = ["Output", "app"]
