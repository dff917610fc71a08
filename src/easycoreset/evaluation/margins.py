"""Margins: each sample's distance to the boundary, as an attack finds it, and the curve of accuracy over eps."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from easycoreset.attacks import MARGINS
from easycoreset.attacks.fmn import perturbation_norms
from easycoreset.data import Split
from easycoreset.errors import UsageError, quote, require
from easycoreset.evaluation.attack_run import SAVE_INTERVAL
from easycoreset.evaluation.measurements import Entries, Measurement
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.members import load_member, spell_member, split_spec
from easycoreset.models.modes import device_of, frozen
from easycoreset.options import Norm
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table
from easycoreset.progress import progress

CURVE_POINTS = 50  # values of eps on the accuracy curve


def load_margin(spec: str, norm: Norm) -> tuple[str, Any]:
    """Load the minimal-norm attack that `spec` names, for a norm; return its canonical spelling and the attack.

    Raises:
        UsageError: unknown attack or option, or an attack that does not support the norm.
    """
    attack = load_member("margin", spec, MARGINS)
    if hasattr(attack, "norm"):
        return spell_member(split_spec(spec)[0], attack), load_member("margin", spec, MARGINS, norm=norm)
    if norm != "l2":
        raise UsageError(f"margin {quote(spec)} supports only norm 'l2'; got norm {quote(norm)}")
    return spell_member(split_spec(spec)[0], attack), attack


def plan_margins(specs: Sequence[str], norm: Norm) -> Measurement:
    """The distances that are to be measured.

    Raises:
        UsageError: an unknown attack, or one that is named twice.
    """
    attacks = [load_margin(spec, norm) for spec in specs]
    names = [name for name, _ in attacks]
    require(len(set(names)) == len(names), "margins", "named once each", names)
    entries: Entries = {(name,): partial(measure_margins, name, attack, norm) for name, attack in attacks}
    return Measurement("margins", ("attack",), entries, summarise_margins)


def measure_margins(
    name: str, attack: Any, norm: Norm, model: nn.Module, split: Split, clean: Outcome, batch_size: int, file: Path
) -> pa.Table:
    """Measure the evaluated samples' distances to the boundary: upper bounds of the true ones.

    Progress is saved to `file`, from which an interrupted call resumes.

    Returns:
        A table with the columns `index, label, attack, norm, distance_upper_bound, found`. The distance is 0 if the
        sample is misclassified when clean, and null if no adversarial point was found.
    """
    device = device_of(model)
    distance = np.zeros(len(clean.index))
    found = clean.broken.copy()
    done = 0
    if file.exists():
        table = read_table(file, {"found": "bool"})
        distance, found = (table[column].to_numpy(zero_copy_only=False).copy() for column in ("distance", "found"))
        done = int(read_provenance(table, file, None)["done"])
    position_of = {int(index): position for position, index in enumerate(clean.index)}
    rows = clean.index[~clean.broken]  # rows of the split
    last_save = time.monotonic()
    with progress(f"margins by {name}", len(rows), done) as bar:
        for batch in split.batches(rows[done:], batch_size, device):
            x_adv = attack(model, batch.x, batch.y, batch.index)
            with frozen(model), torch.no_grad():
                broken = model(x_adv).argmax(1) != batch.y
            positions = np.array([position_of[index] for index in batch.index.tolist()])
            distance[positions] = perturbation_norms(x_adv - batch.x, norm).cpu().numpy()
            found[positions] = broken.cpu().numpy()
            done += len(positions)
            bar.advance(len(positions))
            if time.monotonic() - last_save > SAVE_INTERVAL:
                table = pa.table({"distance": distance, "found": found})
                write_table(with_provenance(table, {"done": done}), file)
                last_save = time.monotonic()
    return pa.table(
        {
            "index": clean.index,
            "label": split.labels[clean.index],
            "attack": [name] * len(distance),
            "norm": [norm] * len(distance),
            "distance_upper_bound": pa.array(distance, mask=~found),
            "found": found,
        }
    )


def summarise_margins(table: pa.Table) -> list[dict[str, Any]]:
    """For each attack: median distance, share found, and the remaining accuracy at each eps, all upper bounds.

    The median is of all samples, 0 for those misclassified when clean; None where half of them have no distance.
    """
    summaries: list[dict[str, Any]] = []
    for name in dict.fromkeys(table["attack"].to_pylist()):
        rows = table.filter(pc.field("attack") == name)
        distance = rows["distance_upper_bound"].to_numpy(zero_copy_only=False).astype(float)
        distance[np.isnan(distance)] = np.inf
        finite = distance[np.isfinite(distance)]
        median = float(np.sort(distance)[len(distance) // 2])
        eps = np.linspace(0, finite.max(initial=0), CURVE_POINTS)
        accuracy = [float(np.mean(distance > e)) for e in eps]
        summaries.append(
            {
                "attack": name,
                "norm": rows["norm"][0].as_py(),
                "samples": len(distance),
                "found": float(np.mean(np.isfinite(distance))),
                "median_upper_bound": median if np.isfinite(median) else None,
                "curve": {"eps": eps.tolist(), "accuracy_upper_bound": accuracy},
            }
        )
    return summaries
