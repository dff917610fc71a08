"""The report of an audit: what was found in sentences, and the pictures, on which a person decides."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_url

import numpy as np
import pyarrow as pa

from easycoreset.console import format_percent
from easycoreset.data_specs import has_image_files, image_file_paths
from easycoreset.decisions import DECIDED, read_decisions
from easycoreset.documents import DataTable, Figure, Section, Share
from easycoreset.documents.plots import COLOURS, axes_layout
from easycoreset.documents.review import Review, ReviewIssue, ReviewPicture
from easycoreset.errors import UsageError
from easycoreset.parquet import read_provenance, read_table
from easycoreset.python_objects import name_briefly
from easycoreset.records import SUMMARY_SCHEMAS, read_record, read_summary
from easycoreset.schemas import check_record
from easycoreset.tables.image_paths import check_ids

MAX_UP = 4  # folders above the page in which the data may lie, so that the page links to the originals
BINS = 40
KINDS = {  # kind -> what it means; the keys are in the order in which they are shown
    "label": "The label is probably wrong: the judge, which was not trained on the picture, predicts another label. "
    "The percentage is the probability that the label is wrong. The label that the judge predicts may be wrong too.",
    "leak": "The training picture, or one nearly like it, is in the test part too: the test accuracy then looks better "
    "than it is.",
    "seen in training": "The model that was given as `init` was trained on this test picture.",
    "duplicate": "The same picture, pixel by pixel, is in the data twice. The one that stays is beside it.",
    "near duplicate": "The same picture is in the data twice, but resized, cropped, brightened or stored again. The "
    "one that stays is beside it. The score is how alike they are.",
    "odd one out": "The picture is far from all others in what the judge sees in it: perhaps it does not belong here.",
    "blurred": "The picture has far less detail than the others.",
    "dark": "Even the brightest parts of the picture are dark.",
    "bright": "Even the darkest parts of the picture are bright.",
    "low information": "The picture has hardly any detail: a plain surface, or a small thing on one.",
    "odd size": "The picture is far smaller, larger, wider or taller than the others.",
    "doubtful label": "These labels are not called wrong, but they are the next most likely to be wrong. Most of them "
    "are right, so decide on each picture by itself.",
}
JUDGES = {
    "folds": "models ({model}, {epochs} epochs), each trained on two thirds of the training pictures to judge the rest",
    "epochs": "the mean of {models} models of scored epochs, which were trained on these pictures and their labels",
    "features": "logistic regression on the given features ({features} numbers a picture), trained on the other parts "
    "of the training pictures",
}
GOOD_JUDGE = 0.8  # a better judge is recommended below this accuracy
PARTS = {"train": "training"}  # how parts are called, where not by their name
TABLE_COLUMNS = {"index": "integer", "label": "integer", "suspicion": "number", "likely_mislabelled": "bool"}
ISSUE_COLUMNS = {
    "kind": "text",
    "part": "text?",
    "index": "integer?",
    "sample_id": "text",
    "score": "number",
    "suggestion": "text?",
    "other_part": "text?",
    "other_index": "integer?",
}
PICTURE_COLUMNS = {
    "part": "text",
    "index": "integer",
    "sample_id": "text",
    "label_name": "text",
    "digest": "text",
    "thumbnail": "binary",
}


def describe_audit(folder: Path) -> list[Section]:
    """What was found, the judge of the labels, the pictures to decide on, and what cannot be read."""
    table = read_table(folder / "audit.parquet", TABLE_COLUMNS)
    issues = read_table(folder / "issues.parquet", ISSUE_COLUMNS)
    pictures = read_table(folder / "pictures.parquet", PICTURE_COLUMNS)
    record, summary = read_record(folder / "run.json"), read_summary(folder / "run.json")
    check_record(summary, SUMMARY_SCHEMAS["audit"], f"{folder / 'run.json'}: summary")
    provenance = read_provenance(table, folder / "audit.parquet", None)
    review = _review(folder, record, provenance, issues, pictures)
    tables = [_counts(summary), *([_noise(summary["noise"])] if "noise" in summary else [])]
    return [
        Section("What was found", bullets=_findings(summary, record), tables=tables, brief=True),
        Section(
            "Pictures to decide on",
            ["Nothing is deleted. Leave pictures out, or give them another label; the browser keeps the decisions."],
            review=review,
        ),
        Section(
            "How far the judge can be believed", _describe_judge(summary["judge"]), tables=[_classes(summary, table)]
        ),
        *([Section("Files that cannot be read", bullets=summary["unreadable"])] if summary["unreadable"] else []),
    ]


def describe_audit_briefly(folder: Path) -> list[Section]:
    """What was found, for a report that has more to say."""
    found, _, judge, *_ = describe_audit(folder)
    return [found, judge]


def draw_suspicion(table: pa.Table) -> Figure:
    """A histogram of the probability that a label is wrong; labels that are called wrong have another colour."""
    values = table["suspicion"].to_numpy().astype(float)
    flagged = table["likely_mislabelled"].to_numpy(zero_copy_only=False)
    edges = np.linspace(0, 1, BINS + 1)
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": ((edges[:-1] + edges[1:]) / 2).tolist(),
            "y": np.histogram(values[rows], edges)[0].tolist(),
            "width": np.diff(edges).tolist(),
            "marker": {"color": COLOURS[number]},
        }
        for number, (name, rows) in enumerate((("others", ~flagged), ("likely mislabelled", flagged)))
    ]
    layout = axes_layout("probability that the label is wrong", "training samples", barmode="stack", bargap=0)
    layout["yaxis"]["type"] = "log"
    return Figure("training samples by the probability that their label is wrong", traces, layout)


def _findings(summary: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What was found, and what to do next."""
    issues = summary["issues"]
    judge = summary["judge"]
    sentences = [_label_finding(summary)]
    if leaks := sum(issues.get("leak", {}).values()):
        held_out = " (a fifth of the pictures, which was held out)" if summary.get("held_out") else ""
        sentences.append(
            f"{_pictures(leaks)} of the training part {_are(leaks)} in the test part{held_out} too, exactly or nearly."
        )
    copies = sum(sum(issues.get(kind, {}).values()) for kind in ("duplicate", "near duplicate"))
    if copies:
        relabelled = summary["duplicates_with_another_label"]
        other = f", {relabelled} of them under another label" if relabelled else ""
        sentences.append(f"{_pictures(copies)} {_are(copies)} there more than once{other}.")
    if count := len(summary["unreadable"]):
        sentences.append(f"{count} file{'s' * (count > 1)} cannot be read.")
    rest = {kind: sum(issues[kind].values()) for kind in KINDS if kind in issues}
    named = ("label", "leak", "duplicate", "near duplicate", "doubtful label")
    if odd := [f"{count} {kind}" for kind, count in rest.items() if kind not in named]:
        sentences.append(f"Pictures that look unusual: {', '.join(odd)}.")
    if judge["accuracy"] < GOOD_JUDGE and judge["kind"] != "features":
        sentences.append(
            "A better judge finds more wrong labels: give --init with a model trained on similar pictures (--init "
            "runs/other/all, or --init pretrained), or --features FILE with the features of a large model "
            "(.npy with a row for each training picture)."
        )
    return sentences


def _label_finding(summary: Mapping[str, Any]) -> str:
    """How many labels are called wrong, how many of them are expected to be wrong, and the judge's accuracy."""
    judge = summary["judge"]
    counts = summary["issues"].get("label", {})
    accuracy = f"the judge predicts {format_percent(judge['accuracy'])} of the training pictures as they are labelled"
    weak = judge["weak_classes"]
    if len(weak) == len(judge["accuracy_per_class"]):
        return f"Nothing can be said about wrong labels: the judge is too weak ({accuracy})."
    if not counts:
        found = f"No label is called wrong ({accuracy})."
    else:
        parts = " and ".join(f"{count} of the {PARTS.get(part, part)} part" for part, count in counts.items())
        expected = judge["expected_precision"]
        sure = "" if expected is None else f"; about {expected:.0%} of them are expected to be wrong"
        found = f"Labels that are called wrong: {parts}{sure} ({accuracy})."
        rest = judge["expected_wrong"] - (expected or 0) * counts.get("train", 0)
        if rest >= 1:
            found += (
                f" These are not all: about {rest:.0f} more of the training part are expected to be wrong. It is not "
                'known which ones; the likeliest are listed as "doubtful label".'
            )
    unsaid = f" Nothing is said about {', '.join(weak)}: the judge knows too little of them." if weak else ""
    return found + unsaid


def _pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _describe_judge(judge: Mapping[str, Any]) -> list[str]:
    """How the judge was made, and what its numbers mean."""
    facts = {name: judge.get(name, "?") for name in ("model", "epochs", "models", "features")}
    sentences = [
        f"The labels were judged by {JUDGES[judge['kind']].format(**facts)}. It predicts "
        f"{format_percent(judge['accuracy'])} of the training pictures as they are labelled. A label is called wrong "
        "if its probability of being wrong, by the judge's calibrated probabilities, is 35% or more, and the judge "
        "predicts another label."
    ]
    if judge["kind"] == "epochs":
        sentences.append("These models saw the labels that they judge: they find fewer wrong ones than folds would.")
    if weak := judge["weak_classes"]:
        sentences.append(
            f"Too weak for {', '.join(weak)}: its predictions there may be chance, or are far too confident."
        )
    return sentences


def _counts(summary: Mapping[str, Any]) -> DataTable:
    """The issues by kind and part."""
    parts = [*summary["samples"], *(["files"] if summary["unreadable"] else [])]
    kinds = [kind for kind in [*KINDS, "unreadable"] if kind in summary["issues"]]
    rows = [[kind, *(summary["issues"][kind].get(part, 0) for part in parts)] for kind in kinds]
    return DataTable("issues", ["issue", *parts], rows)


def _classes(summary: Mapping[str, Any], table: pa.Table) -> DataTable:
    """The judge's accuracy on each class, and what it calls wrong there."""
    accuracies = summary["judge"]["accuracy_per_class"]
    labels = table["label"].to_numpy()
    called = labels[table["likely_mislabelled"].to_numpy(zero_copy_only=False)]
    rows = [
        [name, int(np.sum(labels == k)), None if value is None else Share(value), int(np.sum(called == k))]
        for k, (name, value) in enumerate(accuracies.items())
    ]
    return DataTable("the judge", ["class", "pictures", "predicted as labelled", "labels called wrong"], rows)


def _review(
    folder: Path, record: Mapping[str, Any], provenance: Mapping[str, Any], issues: pa.Table, pictures: pa.Table
) -> Review:
    """The pictures and their issues for the page.

    Raises:
        UsageError: an issue names a picture that is not there.
    """
    lines = pictures.to_pylist()
    links = _links(folder, record, [line["sample_id"] for line in lines])
    position = {(line["part"], line["index"]): number for number, line in enumerate(lines)}
    shown = [line for line in issues.to_pylist() if line["part"] is not None]
    try:
        listed = [
            ReviewIssue(
                line["kind"],
                position[line["part"], line["index"]],
                float(line["score"]),
                line["suggestion"],
                None if line["other_part"] is None else position[line["other_part"], line["other_index"]],
            )
            for line in shown
        ]
    except KeyError as error:
        raise UsageError(f"{folder / 'pictures.parquet'} lacks the picture {error.args[0]}") from None
    listed.sort(key=lambda issue: list(KINDS).index(issue.kind) if issue.kind in KINDS else len(KINDS))
    return Review(
        name_briefly(Path(str(record.get("given", {}).get("data", ""))).name),
        str(provenance.get("fingerprint", ""))[:16],
        [str(name) for name in provenance.get("class_names", [])],
        KINDS,
        [_picture(line, link) for line, link in zip(lines, links, strict=True)],
        listed,
        read_decisions(folder / DECIDED) if (folder / DECIDED).exists() else (),
    )


def _picture(line: Mapping[str, Any], link: str) -> ReviewPicture:
    return ReviewPicture(line["part"], line["sample_id"], line["label_name"], line["digest"], line["thumbnail"], link)


def _links(folder: Path, record: Mapping[str, Any], sample_ids: list[str]) -> list[str]:
    """Links from the page to the original images, "" where they do not lie near it; no image is read."""
    data = record.get("given", {}).get("data")
    none = [""] * len(sample_ids)
    if not isinstance(data, str) or not has_image_files(data):
        return none
    if Path(data).is_dir():
        check_ids(list(dict.fromkeys(sample_ids)))
    links = [os.path.relpath(path.absolute(), folder.resolve()) for path in image_file_paths(data, sample_ids)]
    if any(link.startswith("../" * (MAX_UP + 1)) for link in links):
        return none
    return [quote_url(link.replace(os.sep, "/")) for link in links]


def _noise(noise: Mapping[str, Any]) -> DataTable:
    """Precision and recall in finding labels that are known to be wrong."""
    rows = [
        [name, cut["k"], cut["precision"], cut["recall"]] for name, cuts in noise["columns"].items() for cut in cuts
    ]
    caption = f"how well each column finds the {noise['wrong']} labels that are known to be wrong"
    return DataTable(caption, ["ranked by", "k", "precision at k", "recall at k"], rows)
