"""Contrasts of a results folder by NumPy and SciPy alone, written from the design without a look at the package.

`python tests/support/independent_contrasts.py FOLDER OUT.json`; every figure is a fraction.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy import optimize, stats

FIGURES = ("gains", "gain", "low", "high", "p", "seed_variance", "image_variance", "images", "sign_flip_p", "extreme")


def run_key(case, **changes):
    case = case | changes | ({"fraction": 1.0} if (case | changes)["method"] == "full" else {})
    names = ("data", "model", "variant", "objective", "fraction", "eps", "method", "size")
    return tuple(case[name] for name in names)


def read_results(folder):
    """A row for each run, seed and eps, and by run and seed 2 x images: right under every attack, right when clean."""
    rows = {}
    results = {}
    images = {}
    for row in pq.read_table(folder / "results.parquet").to_pylist():
        if row["strong"] or row["attack"] == "worst":
            continue
        row["size"] = row["updates"] or row["epochs"]
        table = pq.read_table(folder / "steps" / f"evaluate-{row['evaluation']}" / "predictions.parquet")
        columns = {name: table.sort_by("index")[name].to_numpy() for name in table.column_names}
        attacked = columns["attack"] == row["attack"]
        index = columns["index"][attacked]
        clean = (columns["attack"] == "clean") & np.isin(columns["index"], index)
        outcomes = np.array([columns["broken"][attacked] == 0, (columns["pred"] == columns["label"])[clean]], float)
        assert set(columns["attack"]) == {"clean", row["attack"]} and np.ptp(columns["eps"][attacked]) == 0
        assert abs(columns["eps"][attacked][0] - row["eps"]) < 1e-9
        assert np.all(outcomes[0] <= outcomes[1]) and abs(outcomes[0].mean() - row["accuracy"]) < 1e-9
        assert np.array_equal(index, images.setdefault(run_key(row, fraction=0, method="", size=0), index))
        runs = results.setdefault(run_key(row), {})
        other = rows.setdefault((run_key(row), row["seed"]), row)
        assert other["cell"] == row["cell"], f"two cells are one run: {row}"
        assert other is row or other["attack"] != row["attack"], f"two rows are one attack: {row}"
        runs[row["seed"]] = np.minimum(outcomes, runs.get(row["seed"], 1.0))
    return list(rows.values()), results


def contrast_runs(results, contrast):
    """The outcomes by seed of both methods and of random's frontier, and the seeds that all have."""
    frontier = contrast["frontier"] if contrast["kind"] == "matched clean" else []
    # Every budget of random lies on its frontier and gains 0 over it.
    size = frontier[-1] if frontier and contrast["against"] == "random" else contrast["size"]
    keys = [run_key(contrast), run_key(contrast, method=contrast["against"], size=size)]
    keys += [run_key(contrast, method="random", size=size) for size in frontier]
    runs = [results.get(key, {}) for key in keys]
    return runs, sorted(set.intersection(*map(set, runs)))


def possible_contrasts(rows, results):
    """The additional contrasts."""
    methods = dict.fromkeys(row["method"] for row in rows)
    sizes = sorted({row["size"] for row in rows})
    pairs = [(method, "random") for method in methods if method != "random"]
    pairs += [("easiest:by=loss", "easycore"), ("easycore", "full")]
    settings = {run_key(row, size=None): row for row in rows if row["method"] == "random"}.values()
    for row, (method, against) in itertools.product(settings, pairs):
        frontier = [size for size in sizes if run_key(row, size=size) in results]
        kinds = ["equal updates"]
        if row["eps"] == row["main"] and (method, against) in [("easiest:by=loss", "easycore"), ("full", "random")]:
            kinds += ["matched clean"] * (len(frontier) > 1)
        size = max((size for size in sizes if run_key(row, method=method, size=size) in results), default=None)
        for kind in kinds:
            contrast = row | {"method": method, "against": against, "kind": kind, "size": size, "frontier": frontier}
            if seeds := contrast_runs(results, contrast)[1]:
                yield contrast | {"seeds": seeds, "declared": False, "primary": False}


def image_gains(kind, runs, seeds):
    """Gains, seeds x images; None where a method is off random's frontier."""
    method, against, *frontier = (np.array([run[seed] for seed in seeds]).swapaxes(0, 1) for run in runs)
    if kind == "equal updates":
        return method[0] - against[0]
    gains = []
    for outcomes in (method, against):
        for below, above in itertools.pairwise(sorted(frontier, key=lambda budget: budget[1].mean())):
            share = (outcomes - below)[1].mean() / (above - below)[1].mean()
            if 0 <= share <= 1:
                slope = (above - below)[0].mean() / (above - below)[1].mean()
                robust, clean = outcomes - (1 - share) * below - share * above
                gains.append(robust - slope * clean)
                break
    return gains[0] - gains[1] if len(gains) == 2 else None


def estimate(kind, runs, seeds):
    """The figures over these seeds; `extreme` is the seed whose gain is farthest from the mean."""
    if not seeds or (gains := image_gains(kind, runs, seeds)) is None:
        return dict.fromkeys(FIGURES) | {"p": 1.0}
    (n, images) = gains.shape
    per_seed = gains.mean(axis=1)
    gain = gains.mean()
    seed_variance = per_seed.var(ddof=1) if n > 1 else 0.0
    covariance = (gains.sum(axis=0).var(ddof=1) - gains.var(axis=1, ddof=1).sum()) / max(n * (n - 1), 1)
    image_variance = max(covariance, 0.0) / images
    low = None
    high = None
    p = 1.0

    def half_width(level):
        t = stats.t.isf(level / 2, n - 1)
        z = stats.norm.isf(level / 2)
        return np.sqrt(t**2 * seed_variance / n + z**2 * image_variance)

    if seed_variance > 1e-20:
        low = gain - half_width(0.05)
        high = gain + half_width(0.05)
        if abs(gain) > 1e-15:
            p = np.exp(optimize.brentq(lambda log: half_width(np.exp(log)) - abs(gain), -300.0, 0.0, xtol=1e-13))
    flipped = np.array(list(itertools.product((1, -1), repeat=n))) @ per_seed / n
    sign_flip_p = np.mean(np.abs(flipped) >= abs(gain) - 1e-12)
    extreme = seeds[np.abs(per_seed - gain).argmax()]
    figures = (per_seed.tolist(), gain, low, high, p, seed_variance, image_variance, images, sign_flip_p, extreme)
    return dict(zip(FIGURES, figures, strict=True))


def compute(results, contrast):
    """A contrast with its figures, and those without its extreme seed."""
    (runs, finished) = contrast_runs(results, contrast)
    kind = contrast["kind"]
    seeds = contrast["seeds"] if set(contrast["seeds"]) <= set(finished) else []
    names = ("method", "against", "objective", "fraction", "kind", "eps", "size", "seeds", "declared", "primary")
    line = {name: contrast[name] for name in names} | estimate(kind, runs, seeds)
    rest = estimate(kind, runs, [seed for seed in seeds if seed != line["extreme"]])
    line["without_extreme"] = {"mean": rest["gain"]} | {name: rest[name] for name in ("low", "high", "p")}
    return line | ({"verdict": "not measurable" if seeds else "provisional"} if line["declared"] else {})


def decide(family, may_claim=True):
    """Holm's p and the verdicts of a family."""
    p_holm = 0.0
    for rank, line in enumerate(sorted(family, key=lambda line: line["p"])):
        line["p_holm"] = p_holm = max(p_holm, min(1.0, (len(family) - rank) * line["p"]))
        if line["low"] is not None and p_holm < 0.05 and line["low"] * line["high"] > 0:
            line["verdict"] = "inconclusive" if not may_claim else "gain" if line["gain"] > 0 else "loss"
        elif line["low"] is not None:
            line["verdict"] = "no difference" if max(-line["low"], line["high"]) <= 0.01 else "inconclusive"


def main(folder, out):
    plan = json.loads((folder / "plan.json").read_text())
    rows, results = read_results(folder)
    assert {row["cell"] for row in rows} <= {cell["name"] for cell in plan["cells"]}, "a cell is not in the plan"
    declared = [item for item in plan["starts"][0]["declared"] if item["evaluated"] == 0]
    contrasts = [item["contrast"] | {"declared": True, "primary": item["primary"]} for item in declared]
    contrasts += possible_contrasts(rows, results)
    lines = [compute(results, contrast) for contrast in contrasts]
    primary = [line for line in lines if line["primary"]]
    decide(primary)
    primary_claims = all(line["verdict"] in ("gain", "loss") for line in primary)
    decide([line for line in lines if line["declared"] and not line["primary"]], may_claim=primary_claims)
    out.write_text(json.dumps(lines, indent=1))
    for line in lines:
        name = "{method} against {against}, {objective}, {kind}, eps {eps:.4f}".format(**line)
        figures = "" if line["low"] is None else "{gain:.4f} [{low:.4f}, {high:.4f}] p {p:.3g}".format(**line)
        print(f"{name:92} {figures:34} {line.get('verdict', 'additional')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
