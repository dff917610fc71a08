"""All measures, objectives and attacks once, on any device, and how far two devices are apart."""

import numpy as np
import pyarrow.parquet as pq
from safetensors.torch import load_file

import easycoreset as ec

OBJECTIVES = ("trades:steps=2", "pgd-at:steps=2", "mart:steps=2", "fgsm-rs")
ATTACKS = {
    "linf": [
        "pgd:steps=8",
        "pgd:steps=12:loss=margin:restarts=2",
        "pgd:steps=6:loss=targeted:restarts=2",
        "fgsm",
        "noise",
        "square:queries=20",
        "apgd:iterations=5",
        "autoattack:iterations=3:queries=5",
    ],
    "l2": ["pgd:steps=8", "fgsm", "noise", "apgd:iterations=5"],
}
MARGINS = {"linf": ["fmn:steps=10", "deepfool:steps=5"], "l2": ["fmn:steps=10", "ddn:steps=10"]}
EPS = {"linf": 0.15, "l2": 0.8}


def measure(small, out, trained):
    """Score with every measure, train by every objective, and attack the model of `trained`, or this one's.

    `small` are options of both training and scoring: the data, the model, the device, ...
    """
    machine = {"device": small["device"]} if "device" in small else {}
    hardness = ["cheap", "vog", "curvature", "grand_full", "boundary"]
    ec.score(**small, epochs=2, save_features="adversarial", out=out / "scores", hardness=hardness)
    for objective in OBJECTIVES:
        ec.train(**small, updates=3, objective=objective, out=out / objective.partition(":")[0])
    for norm, attacks in ATTACKS.items():
        for number, attack in enumerate(attacks):
            ec.evaluate(
                data=small["data"],
                weights=(trained or out) / "scores",
                attack=[attack],
                norm=norm,
                eps=[EPS[norm]],
                margins=MARGINS[norm] if not number else (),
                save_adversarial=not number,
                checks="quick",
                attack_precision="fp32",
                **machine,
                out=out / norm / attack,
            )


def compare(here, there):
    """How far the two are apart: in every score, feature and weight, and in the outcomes of every attack."""
    scores = [ec.Scores.read(out / "scores" / "scores.parquet") for out in (here, there)]
    apart = {name: np.nanmax(np.abs(scores[0][name] - scores[1][name])) for name in scores[0].columns}
    for name in ("features.npy", "features_adv.npy", "probabilities_adv.npy"):
        arrays = [np.load(out / "scores" / name).astype(np.float32) for out in (here, there)]
        apart[name] = np.abs(arrays[0] - arrays[1]).max()
    for objective in (objective.partition(":")[0] for objective in OBJECTIVES):
        weights = [load_file(out / objective / "model.safetensors") for out in (here, there)]
        apart[objective] = max(float((w - weights[1][name]).abs().max()) for name, w in weights[0].items())
    outcomes: dict[str, dict[str, int]] = {}
    for norm, attacks in ATTACKS.items():
        for attack in attacks:
            tables = [pq.read_table(out / norm / attack / "predictions.parquet").to_pandas() for out in (here, there)]
            changed = tables[0]["broken"] != tables[1]["broken"]
            clean = tables[1]["attack"] == "clean"
            broken = int(tables[1]["broken"][~clean].sum()), int(tables[1]["broken"][clean].sum())
            outcomes[f"{norm} {attack}"] = {"changed": int(changed.sum()), "broken": broken[0], "clean": broken[1]}
    return {"apart": {name: float(value) for name, value in apart.items()}, "outcomes": outcomes}
