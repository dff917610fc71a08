"""The commands. Each imports its modules when it is called, so that help and `select` start fast."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from easycoreset.cli.flags import convert_flag, show_default
from easycoreset.cli.help import HelpFormatter
from easycoreset.cli.output import Output, show
from easycoreset.cli.places import usage_with_first_word
from easycoreset.cli.plans import NEXT, run_grid, show_declared, show_dry_run
from easycoreset.documents import DataTable, Section
from easycoreset.errors import RunError
from easycoreset.options import (
    AnalyzeOptions,
    AuditOptions,
    CleanOptions,
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
    help_formatter=HelpFormatter(),
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(converter=convert_flag, n_tokens=1, negative_iterable=(), show_default=show_default),
)


@app.command
def demo(
    *, out: Path = Path("runs/demo"), workers: int = 2, overwrite: Annotated[bool, Parameter(negative=())] = False
) -> None:
    """Run the whole method on the bundled digits, in about a minute and a half on two cores.

    Args:
        out: folder where the results are written.
        workers: number of worker processes, one thread each.
        overwrite: replace another experiment in the folder.
    """
    options = CompareOptions(recipe="digits", workers=workers, overwrite=overwrite, out=out)
    run_grid(options, *NEXT)


@app.command(usage=usage_with_first_word("run"))
def run(options: Annotated[PipelineOptions, Flat]) -> None:
    """Make a report from a folder of labelled images: score, audit, select, train, evaluate."""
    from easycoreset.reporting import check_page_writable, write_report
    from easycoreset.workflow.running import plan_run
    from easycoreset.workflow.running import run as run_all

    if options.dry_run:
        show_dry_run(list(plan_run(options).steps.values()), options)
        return
    check_page_writable(options.out)
    comparison = run_all(**vars(options))
    if comparison is not None:
        value = {**comparison, "folder": str(options.out)}
        show(value, write_report(options.out), options.out / "report.html")


@app.command
def compare(options: Annotated[CompareOptions, Flat]) -> None:
    """Compare methods over data, models, fractions, objectives, budgets, seeds and any option, or by a recipe.

    Any option of another step is --STEP.OPTION (`--score.epochs 30`); several values of an option are an axis (--vary).
    """
    from easycoreset.workflow.comparing import WORKERS, plan_comparison, preregister_comparison

    if options.dry_run:
        show_dry_run(plan_comparison(options).targets, options, WORKERS)
    elif options.preregister:
        show_declared(preregister_comparison(options), options.out)
    else:
        run_grid(options)


@app.command
def score(options: Annotated[ScoreOptions, Flat]) -> None:
    """Train a model and score how hard every sample is."""
    from easycoreset.documents.summaries import describe_run_summary, summarise_hardness
    from easycoreset.scoring import score as run_scoring
    from easycoreset.scoring import scores_file

    scores = run_scoring(**vars(options))
    record, file = read_record(options.out / "run.json"), scores_file(options.out, options.split)
    text, table = describe_run_summary(record["summary"]), summarise_hardness(scores.columns)
    show({**record, "file": str(file)}, [Section("Scores", [text], tables=[table], brief=True)], file)


@app.command
def select(options: Annotated[SelectOptions, Flat]) -> None:
    """Select a coreset by scores."""
    from easycoreset.documents.summaries import count_classes, describe_drift
    from easycoreset.dynamic import require_static
    from easycoreset.selection import select as run_selection

    require_static(options.method)
    coreset = run_selection(**vars(options))
    value = read_record(options.out.with_suffix(".json")) | {"file": str(options.out), "kept": len(coreset)}
    before, after = (counts.tolist() for counts in coreset.class_counts())
    names = coreset.provenance.get("class_names", ())
    counts = [*names, *map(str, range(len(names), len(before)))], before, after
    text = f"{coreset.provenance['method']} keeps {len(coreset)} of {len(coreset.keep)} samples"
    paragraphs = [text, *([] if options.per_class else describe_drift(*counts))]
    show(value, [Section("Coreset", paragraphs, tables=[count_classes(*counts)], brief=True)], options.out)


@app.command
def train(options: Annotated[TrainOptions, Flat]) -> None:
    """Train on a coreset or on all data, by an objective."""
    from easycoreset.documents.summaries import describe_run_summary
    from easycoreset.training import train as run_training

    run_training(**vars(options))
    record, file = read_record(options.out / "run.json"), options.out / "model.safetensors"
    show({**record, "file": str(file)}, [], describe_run_summary(record["summary"]), file)


@app.command
def evaluate(options: Annotated[EvaluateOptions, Flat]) -> None:
    """Measure clean and adversarial accuracy, with checks of the attack."""
    from easycoreset.documents.summaries import describe_outcomes
    from easycoreset.evaluation import evaluate as run_evaluation

    result = run_evaluation(**vars(options))
    record, file = read_record(options.out / "evaluation.json"), options.out / "evaluation.json"
    show({**record, "folder": str(options.out)}, describe_outcomes(record["summary"]), file)
    if options.strict and result.warnings:
        raise RunError(f"strict: {len(result.warnings)} of {len(result.checks)} checks give a warning")


@app.command
def analyze(options: Annotated[AnalyzeOptions, Flat]) -> None:
    """Test whether easy samples are less vulnerable, far from the boundary, and easy for every model."""
    from easycoreset.reporting import check_page_writable, write_report
    from easycoreset.workflow.analyzing import Analysis
    from easycoreset.workflow.analyzing import analyze as run_analysis

    if options.dry_run:
        show_dry_run(list(Analysis(options).steps.values()), options)
        return
    check_page_writable(options.out)
    analysis = run_analysis(**vars(options))
    if analysis is not None:
        show({**analysis, "folder": str(options.out)}, write_report(options.out), options.out / "report.html")


@app.command(usage=usage_with_first_word("audit"))
def audit(options: Annotated[AuditOptions, Flat]) -> None:
    """Find hard, likely mislabelled, duplicate and unreadable samples; nothing is deleted."""
    from easycoreset.auditing import audit as run_audit
    from easycoreset.reporting import check_page_writable, write_report

    check_page_writable(options.out)
    run_audit(**vars(options))
    value = read_record(options.out / "run.json") | {"folder": str(options.out)}
    show(value, write_report(options.out), options.out / "report.html")


@app.command(usage=usage_with_first_word("clean"))
def clean(options: Annotated[CleanOptions, Flat]) -> None:
    """Write a new data set by the decisions made on an audit's page; the old data set is not changed."""
    from easycoreset.exporting.cleaning import RECORD_NAME, clean_summary
    from easycoreset.exporting.cleaning import clean as run_cleaning

    out = run_cleaning(**vars(options))
    file = out / RECORD_NAME if out.is_dir() else out.with_suffix(f".{RECORD_NAME}")
    record = read_record(file)
    show({**record, "out": str(out)}, clean_summary(record), out)


@app.command(usage=usage_with_first_word("predict"))
def predict(options: Annotated[PredictOptions, Flat]) -> None:
    """Predict labels of unlabelled images."""
    from easycoreset.predicting import predict as run_prediction

    run_prediction(**vars(options))
    record, file = read_record(options.out / "run.json"), options.out / "labels.parquet"
    summary = record["summary"]
    table = DataTable("", ["class", "images"], list(summary["counts"].items()))
    labelled = f"The model {options.weights} has labelled {summary['images']} images"
    text = f"{labelled}; each is a row of {file.with_suffix('.csv')}."
    show({**record, "file": str(file)}, [Section("Predictions", [text], tables=[table], brief=True)], file)


@app.command(usage=usage_with_first_word("report"))
def report(options: Annotated[ReportOptions, Flat]) -> None:
    """Write a report of the results in a folder: one offline HTML page, Markdown, or the tables as LaTeX."""
    from easycoreset.reporting import report as run_report

    file = run_report(**vars(options)).path
    show({"file": str(file)}, [], file)


@app.command
def export(options: Annotated[ExportOptions, Flat]) -> None:
    """Export results in a format that other tools read."""
    from easycoreset.exporting import export as run_export

    path = run_export(**vars(options))
    show({"file": str(path)}, [], path)


@app.command
def doctor() -> None:
    """Show versions, devices, threads, optional packages, and the speed of this machine."""
    from easycoreset.doctor import describe_diagnosis, diagnose

    found = diagnose()
    show(found, [describe_diagnosis(found)])


__all__ = ["Output", "app"]
