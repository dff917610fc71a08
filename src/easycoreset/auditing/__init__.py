"""The audit: wrong labels, copies, leaks between the parts and odd pictures of a data set. Nothing is deleted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.auditing.by_epochs import find_models
from easycoreset.auditing.by_folds import FOLD_PREDICTIONS
from easycoreset.auditing.duplicates import Copies, find_copies
from easycoreset.auditing.findings import JUDGE_LOSS, summarise, tabulate
from easycoreset.auditing.issue_pictures import tabulate_pictures
from easycoreset.auditing.issues import DOUBTFUL, LABEL, SEEN, IssueTable, Part
from easycoreset.auditing.judgement import Judgement
from easycoreset.auditing.judging import JudgePlan, judge, plan_judge
from easycoreset.auditing.label_issues import LabelIssues, find_label_issues
from easycoreset.auditing.noise import measure_noise
from easycoreset.auditing.oddness import find_odd
from easycoreset.auditing.picture_quality import find_quality_issues
from easycoreset.auditing.pictures import join_facts, look_at_pictures
from easycoreset.auditing.result import Audit
from easycoreset.console import log
from easycoreset.data import Source, Split, cached_sources, has_image_files
from easycoreset.data.content_hashes import find_training_samples, hash_any_images
from easycoreset.data.unscored import unscored_table
from easycoreset.decisions import DECIDED
from easycoreset.devices import PASS_BATCH
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.files import write_atomic
from easycoreset.models.card import read_card
from easycoreset.options import AuditOptions, accept_options, options_json
from easycoreset.parquet import read_table, with_provenance, write_table
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import preserve_rng
from easycoreset.records import read_summary
from easycoreset.run_folders import open_run_folder
from easycoreset.selection.published import read_sample_list
from easycoreset.tables import Scores
from easycoreset.tables.matching import match_scores, require_same_data
from easycoreset.tables.scores import find_scores
from easycoreset.training.budget import choose_side
from easycoreset.training.setup import choose_device, match_image_size, open_data, options_record, set_threads

__all__ = ["Audit", "audit"]

TABLE, ISSUES, PICTURES = "audit.parquet", "issues.parquet", "pictures.parquet"
DOUBTFUL_LABELS = 50  # labels that are not called wrong but are listed as doubtful, at most
BY = ("aign", "aign_online", "grad_norm_online")  # columns that rank samples; the first one in the table is used


@accept_options(AuditOptions, temporary_out="audit")
@preserve_rng()
@cached_sources()
def audit(options: AuditOptions) -> Audit:
    """Look for wrong labels, copies, leaks and odd pictures; write `issues.parquet`, `audit.parquet` and `run.json`.

    `issues.parquet` has one row for each picture of the training or test part and each kind of issue that it has. The
    columns are `kind`, `part`, `index`, `sample_id`, `label_name`, `score` in [0, 1] (for a label, the probability that
    it is wrong), `suggestion` (another label), and the picture that it equals (`other_part, other_index`, `group`).
    `pictures.parquet` has one row for each of these pictures, with a `thumbnail` and a `digest` of its content.

    `audit.parquet` has one row for each training sample. The columns are `index, sample_id, label, label_name`, the
    judge's prediction (`pred, pred_name, probability, self_confidence`), the hardness that ranks it, `rank` (0 is the
    hardest) and `rank_in_class`, `suspicion` (the probability that the label is wrong), `likely_mislabelled`,
    `duplicate_of` (the sample that it is a copy of) and `in_test` (whether the test part has it too).

    Returns:
        The tables, the counts and the folder.

    Raises:
        UsageError: invalid options or data, or the scores are of other data or lack a column.
        RunError: the loss of a judge's training is not finite, or another process is working in the folder.
    """
    scores, file = None, None
    if options.scores is not None:
        file = find_scores(options.scores)
        scores = Scores.read(file)
        options = match_image_size(options, scores.provenance, f"scores {file}")
    if not has_image_files(options.data):
        options = replace(options, skip_unreadable=False)
    elif options.image_size is None:
        side = choose_side(Path(options.data), choose_device(options.device).type)
        options = replace(options, image_size=side)
    device, source = open_data(options)
    scored = unscored_table(source) if scores is None else _match(scores, source, options)
    by = JUDGE_LOSS if scores is None else choose_column(scored, options.by, BY, "by")
    wrong = None if options.wrong is None else read_sample_list("wrong", options.wrong, scored).keep
    plan = plan_judge(options, source, [] if file is None else find_models(file.parent), device)
    identity = _identity(options, source, plan) | {"by": by}
    outputs = (TABLE, ISSUES, PICTURES, FOLD_PREDICTIONS, DECIDED)
    with open_run_folder(options.out, "audit", identity, overwrite=options.overwrite, output_names=outputs) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return Audit(
                table=read_table(run.path / TABLE, {"index": "integer"}),
                issues=read_table(run.path / ISSUES, {"kind": "text"}),
                summary=read_summary(run.path / "run.json"),
                out=options.out,
            )
        parts = [Part(split, 0) for name, split in source.splits.items() if name == "train" and len(split)]
        parts += [Part(split, len(parts[0].split)) for name, split in source.splits.items() if name == "test"]
        copies, quality = _look(options, parts)
        groups = np.where(copies.group >= 0, copies.group, -1 - np.arange(len(copies.group)))[parts[0].rows]
        set_threads(options.threads, plan.model_name or str(scored.provenance.get("model", "")), device)
        judgement = judge(plan, options, source, groups, run.path, device)
        found = _judge_labels(judgement, parts)
        issues = _collect(options, source, parts, copies, quality, judgement, found)
        table = tabulate(scored, judgement, found["train"], by, copies, parts)
        summary = summarise(source, by, issues, table, judgement, found["train"])
        if wrong is not None:
            summary["noise"] = measure_noise(_rankings(scored, table, by), scored.labels, wrong, judgement.p["train"])
        provenance = {"class_names": list(source.class_names), "fingerprint": source.splits["train"].fingerprint}
        pictures = tabulate_pictures(issues, options.data, source)
        if options.decisions is not None:
            content = options.decisions.read_bytes()
            write_atomic(run.path / DECIDED, lambda path: path.write_bytes(content))
        for name, content in ((TABLE, table), (ISSUES, issues), (PICTURES, pictures)):
            write_table(with_provenance(content, provenance), run.path / name)
        run.finish(summary=summary, given=options_record(options))
        return Audit(table=table, issues=issues, summary=summary, out=options.out)


def _match(scores: Scores, source: Source, options: AuditOptions) -> Scores:
    """The scores of the training part as it is now.

    Raises:
        UsageError: they are of other data, or of the test part.
    """
    split = source.splits["train"]
    if scores.provenance.get("split", "train") != "train":
        raise UsageError("scores must be those of the training part; the test part is audited with it")
    if options.allow_subset:
        return match_scores(scores, split, source.class_names, f"scores {options.scores}")
    require_same_data(scores, split, f"scores {options.scores}")
    return scores


def _identity(options: AuditOptions, source: Source, plan: JudgePlan) -> dict[str, Any]:
    """All that determines the result: the options, the data, the judge, and the files that are read."""
    files = {"scores": None if options.scores is None else find_scores(options.scores)}
    files |= {"wrong": options.wrong, "features": options.features}
    digests = {name: None if path is None else sha256_of_file(path)[:16] for name, path in files.items()}
    fingerprints = {"fingerprint": source.splits["train"].fingerprint}
    if "test" in source.splits:
        fingerprints["test_fingerprint"] = source.splits["test"].fingerprint
    return options_json(options, neutral=False) | digests | fingerprints | plan.identity()


def _look(options: AuditOptions, parts: list[Part]) -> tuple[Copies, dict[str, Any]]:
    """The copies among all pictures, and their quality."""
    facts = join_facts([look_at_pictures(options.data, part.split) for part in parts])
    digests = [digest for part in parts for digest in hash_any_images(part.split, PASS_BATCH)]
    names = [name for part in parts for name in part.split.sample_ids]
    is_test = [part.split.name == "test" for part in parts for _ in range(len(part.split))]
    return find_copies(facts, digests, names, is_test), find_quality_issues(facts)


def _judge_labels(judgement: Judgement, parts: list[Part]) -> dict[str, LabelIssues]:
    """Find the label issues of each part, name of the part -> issues.

    The test part uses the noise model of the training part, unless the judge was trained on the training part: it is
    then more confident there, so a separate noise model is fitted to the test part.
    """
    found: dict[str, LabelIssues] = {}
    for part in parts:
        name = part.split.name
        if name in judgement.p:
            noise = found["train"].noise if "train" in found and judgement.out_of_sample else None
            found[name] = find_label_issues(judgement.p[name], part.split.labels, noise)
    return found


def _collect(
    options: AuditOptions,
    source: Source,
    parts: list[Part],
    copies: Copies,
    quality: dict[str, Any],
    judgement: Judgement,
    found: dict[str, LabelIssues],
) -> pa.Table:
    """The table of issues."""
    issues = IssueTable(source, parts)
    issues.add_copies(copies)
    issues.add_unreadable(source.unreadable)
    for part in parts:
        name = part.split.name
        for kind, (score, named) in quality.items():
            issues.add_marked(kind, part, score[part.rows], named[part.rows])
        if name in judgement.oddness:
            issues.add_marked("odd one out", part, *find_odd(judgement.oddness[name]))
        if (seen := _seen_in_training(options, part.split)) is not None:
            issues.add_marked(SEEN, part, np.ones(len(part.split)), seen)
        if name in found:
            labels, p = found[name], judgement.p[name]
            order = np.argsort(-labels.suspicion, kind="stable")
            called = [row for row in order.tolist() if labels.called_wrong[row]]
            worth = (p.argmax(1) != part.split.labels) & ~labels.called_wrong & ~labels.weak_classes[part.split.labels]
            next_ones = [row for row in order.tolist() if worth[row]][:DOUBTFUL_LABELS]
            issues.add_labels(LABEL, part, called, labels.suspicion, p)
            issues.add_labels(DOUBTFUL, part, next_ones, labels.suspicion, p)
    return issues.table()


def _seen_in_training(options: AuditOptions, split: Split) -> Any:
    """Which test pictures the model of `init` was trained on, by its record; None where that is not known."""
    if split.name != "test" or options.init is None or not (Path(options.init) / "model.json").is_file():
        return None
    trained = read_card(Path(options.init)).trained_on
    return None if trained is None else find_training_samples(split, np.arange(len(split)), trained)


def choose_column(scores: Scores, name: str | None, defaults: tuple[str, ...], option: str) -> str:
    """The column `name` if it is given, or else the first default column that the scores have.

    Raises:
        UsageError: the scores do not have the column.
    """
    present = [column for column in ((name,) if name else defaults) if column in scores.columns]
    if not present:
        suggestion = suggest_name(name or defaults[0], scores.columns)
        raise UsageError(f"{option} must be a column of the scores; got {quote(name or defaults[0])}: {suggestion}")
    return present[0]


def _rankings(scores: Scores, table: pa.Table, by: str) -> dict[str, Any]:
    """The columns that are compared in how well they find wrong labels, name -> [N]."""
    return {**scores.columns, by: table[by].to_numpy(), "suspicion": table["suspicion"].to_numpy()}
