"""`compare`: a grid that is killed, shared, sharded or spoilt ends with the table of an undisturbed one."""

import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from grids import SMALL, done, record, results, stamps

from easycoreset import Coreset, open_source
from easycoreset.options import CompareOptions
from easycoreset.reporting.contrasts import ComparisonResults, make_overview_table
from easycoreset.statistics import read_plans
from easycoreset.tables.coreset import kept_count
from easycoreset.tables.holdout import hold_out
from easycoreset.workflow.comparing import run_comparison
from support.messages import named


@pytest.mark.slow
def test_a_grid_is_extended(tmp_path, cli, inline):
    """By methods, fractions, seeds, budgets, radii, attacks, models: each adds its own steps and touches no other."""
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    assert (done(out, "score"), done(out, "select"), done(out, "train"), done(out)) == (2, 4, 6, 6)

    def extend(change, **steps):
        before = stamps(out)
        line = [change.get((flag, a), a) for flag, a in zip(["", *SMALL], SMALL, strict=False)]
        dry = cli("compare", *line, "--dry-run", "--json", "--out", out)
        assert dry.code == 0 and dry.json["kinds"] == steps, dry.json
        ran = cli("compare", *line, "--out", out)
        assert ran.code == 0, ran.err
        after = stamps(out)
        assert {name: after[name] for name in before} == before
        added = [name.partition("-")[0] for name in after if name not in before]
        assert {kind: added.count(kind) for kind in set(added)} == steps

    extend({("--eps", "0.1"): "0.1,0.2"}, evaluate=6)
    extend({("--attack", "fgsm"): "fgsm,noise"}, evaluate=6)
    extend({("--seeds", "2"): "3"}, score=1, select=2, train=3, evaluate=3)
    methods = {("--methods", "random,easycore"): "random,easycore,hardest", ("--fractions", "0.2"): "0.2,0.3"}
    extend(methods, select=8, train=8, evaluate=8)
    extend({("--updates", "3"): "3,4"}, train=6, evaluate=6)
    extend({("--model", "digits-cnn"): "thin-resnet"}, score=2, select=2, train=6, evaluate=6)
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["model"] for row in table} == {"digits-cnn", "thin-resnet"}  # the union of all starts
    page = (out / "report.html").read_text()
    assert "thin-resnet: standard, 20% kept" in page and "digits-cnn: standard, 20% kept" in page
    assert {row["attack"] for row in table} == {"fgsm", "noise", "worst"} and len(record(out)["starts"]) == 7


def test_from_python(tmp_path):
    import easycoreset as ec

    grid = {
        "data": "digits",
        "model": "digits-cnn",
        "methods": ["random", "easycore"],
        "fractions": 0.2,
        "updates": 3,
        "seeds": 2,
        "vary": {"score.epochs": 1},
        "eps": 0.1,
        "attack": "fgsm",
        "out": tmp_path / "grid",
    }
    found = ec.compare(**grid)
    assert found.results.equals(pq.read_table(tmp_path / "grid" / "results.parquet")) and found.results.num_rows == 8
    (contrast,) = (c for c in found.contrasts if c.declared)
    assert contrast.method == "easycore" and contrast.describe() in repr(found)
    assert ec.compare(**grid).results.equals(found.results)  # nothing is left to do
    with pytest.raises(ec.UsageError, match="dry_run"):
        ec.compare(**grid, dry_run=True)


@pytest.mark.slow
def test_a_script_without_a_guard_says_what_it_lacks(tmp_path):
    call = f"import easycoreset as ec; ec.compare(data='digits', methods='random', fractions=[0.1, 0.2, 0.3, 0.4], updates=1, out={str(tmp_path / 'g')!r})"
    (tmp_path / "script.py").write_text(call)
    ran = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert ran.returncode and ran.stderr.count("compare must") <= 8  # it is not tried again for every cell
    assert ran.stderr.splitlines()[-1].endswith('`if __name__ == "__main__":`')


@pytest.mark.slow
def test_spoilt_steps_are_computed_again(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    before = results(out)
    evaluated = sorted((out / "steps").glob("evaluate-*"))
    trained = sorted((out / "steps").glob("train-*"))
    (evaluated[0] / "evaluation.json").write_text("{")
    (evaluated[1] / "predictions.parquet").write_bytes(b"junk")
    (evaluated[2] / "predictions.parquet").unlink()
    (trained[0] / "step.json").write_text("{")
    (trained[1] / "model.safetensors").write_bytes(b"junk")
    ran = cli("compare", *SMALL, "--out", out)
    assert ran.code == 0 and ran.err.count("corrupt") == 5
    assert results(out).equals(before)


@pytest.mark.slow
def test_a_kill_between_a_step_and_its_record_loses_nothing(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    before = results(out)
    gone = [min((out / "steps").glob(f"{kind}-*")) for kind in ("train", "evaluate")]
    weights = {file: file.stat().st_mtime_ns for file in out.glob("steps/*/model.safetensors")}
    for folder in gone:
        (folder / "step.json").unlink()
    assert cli("compare", *SMALL, "--out", out).code == 0
    assert results(out).equals(before) and all((folder / "step.json").exists() for folder in gone)
    assert {file: file.stat().st_mtime_ns for file in weights} == weights  # nothing was trained again


def declared(out):
    plans = read_plans(record(out))
    return [(contrast.method, contrast.kind, len(contrast.frontier)) for contrast in plans.family]


@pytest.mark.slow
def test_other_data_of_the_same_name_supersede_and_the_first_declaration_stays(tmp_path, cli, inline):
    rng = np.random.default_rng(0)
    out = tmp_path / "grid"
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "my.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 3)
    arguments = [{"digits": str(tmp_path / "a" / "my.npz")}.get(a, a) for a in SMALL]
    assert cli("compare", *arguments, "--out", out).code == 0
    assert declared(out) == [("easycore", "equal updates", 0)]
    extended = [
        {"3": "3,4"}.get(a, a) for a in arguments
    ]  # several budgets: another contrast by itself, but the first stays
    assert cli("compare", *extended, "--out", out).code == 0
    assert declared(out) == [("easycore", "equal updates", 0)]  # and the other came later
    other = [{"digits": str(tmp_path / "b" / "my.npz")}.get(a, a) for a in SMALL]
    ran = cli("compare", *other, "--out", out)
    assert ran.code == 0 and named(ran.err, "6 cells", "data")
    assert declared(out) == [("easycore", "equal updates", 0)]
    cells = {row["cell"] for row in pq.read_table(out / "results.parquet").to_pylist()}
    kept = {cell["name"]: cell["superseded"] for cell in record(out)["cells"]}
    assert len(cells) == 12 and sum(kept.values()) == 6 and not any(kept[name] for name in cells)


@pytest.mark.slow
def test_minutes_stop_in_time_and_the_next_start_goes_on(tmp_path, cli):
    out = tmp_path / "grid"
    ran = cli("compare", *SMALL, "--minutes", "0.05", "--out", out)
    assert ran.code == 0 and named(ran.err, "of 18 steps") and done(out) < 6
    assert cli("compare", *SMALL, "--out", out).code == 0
    assert done(out) == 6


@pytest.mark.slow
def test_published_coresets(tmp_path, cli, digits, inline):
    split = digits.splits["train"]
    (tmp_path / "list.txt").write_text("\n".join(str(i) for i in range(0, 1438, 10)))
    (tmp_path / "ids.csv").write_text("\n".join(split.sample_ids[:72]))
    methods = f"random,file:{tmp_path / 'list.txt'},file:{tmp_path / 'ids.csv'}"
    arguments = [methods if a == "random,easycore" else a for a in SMALL]
    ran = cli("compare", *arguments, "--json", "--out", tmp_path / "grid")
    assert ran.code == 0, ran.err
    kept = {(row["method"].rpartition("/")[2], row["kept"]) for row in ran.json["results"]}
    assert kept == {
        ("random", 288),
        ("list.txt", 144),
        ("random", 144),
        ("ids.csv", 72),
        ("random", 72),
        ("full", 1438),
    }
    (tmp_path / "list.txt").write_text("1\n2\n99999")
    ran = cli("compare", *arguments, "--out", tmp_path / "other")
    assert ran.code == 2 and named(ran.err, "index", "1437", "99999") and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", "1\n1", r"a\.txt: [^']*\bsample\b[^']*$"),
        ("a.txt", "", r"a\.txt.*\bindex\b"),
        ("a.txt", "digits/9999", r"a\.txt.*'digits/9999'"),
        ("a.json", "{}", r"a\.json.*\bJSON\b"),
        ("a.json", "[0.5, 1]", r"a\.json.*'0\.5'"),
        ("a.json", "[true, false]", r"a\.json.*\bmask\b.*\b1438\b.*\b2$"),
        ("a.npz", "junk", r"a\.npz.*\bindices\b"),
        ("a.npy", "junk", r"a\.npy.*\bindices\b"),
        ("a.parquet", "junk", r"a\.parquet.*\bParquet\b"),
    ],
)
def test_bad_lists(tmp_path, cli, name, content, match):
    (tmp_path / name).write_text(content)
    arguments = [f"file:{tmp_path / name}" if a == "random,easycore" else a for a in SMALL]
    ran = cli("compare", *arguments, "--out", tmp_path / "grid")
    assert ran.code == 2 and re.search(match, ran.err, re.M) and not (tmp_path / "grid").exists(), ran.err


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"--methods": "random,esycore"}, "'esycore'.*'easycore'"),
        ({"--methods": "random,random"}, "methods.*random"),
        ({"--fractions": "0.5,1.5"}, r"fractions.*1\.5"),
        ({"--eps": "2"}, r"eps.*\b2(\.0)?\b"),
        ({"--attack": "pdg"}, "'pdg'.*'pgd'"),
        ({"--objectives": "trade"}, "'trade'.*'trades'"),
        ({"--epochs": "3"}, "epochs.*updates.*both"),
        ({"--updates": "3,x"}, "updates.*'x'"),
        ({"--shard": "3/2"}, "shard.*'3/2'"),
        ({"--minutes": "0"}, r"minutes.*\b0(\.0)?$"),
        ({"--workers": "-1"}, r"workers.*-1$"),
        ({"--main-eps": "0.3"}, r"main_eps.*\beps\b.*\b0\.3\b"),
        ({"--recipe": "cifar10-quik"}, "'cifar10-quik'.*'cifar10-quick'"),
        ({"--seeds": "+3"}, "extend.*recipe"),
        ({"--seeds": "3-1"}, "seeds.*'3-1'"),
        ({"--vary": "lr=0.1,0.1"}, "vary lr.*once.*'0.1,0.1'"),
        ({"--vary": "lr=fast"}, "vary lr.*'fast'"),
        ({"--vary": "momentum=0.9,2"}, r"vary momentum.*\b2(\.0)?$"),
        ({"--vary": "momentun=0.9,1"}, "vary.*'momentun'.*'momentum'"),
        ({"--vary": "every=1,2"}, r"vary.*every.*score\.every"),
        ({"--vary": "scores.every=1,2"}, "vary.*'scores'.*'score'"),
        ({"--vary": "score.evry=1,2"}, "vary.*'evry'.*'every'"),
        ({"--vary": "methods=random"}, "vary.*methods"),
        ({"--vary": "evaluate.seed=0,1", "--methods": "random", "--attack": "fgsm"}, None),
        ({"--vary": "score.every=1,2", "--methods": "random"}, r"vary.*score\.every"),
        ({"--seeds": "9999", "--fractions": "0.2,0.3", "--updates": "3,4"}, "100000.*$"),
        ({"--data": "digit"}, "'digit'.*'digits'"),
        ({"--controls": "half"}, "controls.*full, random:per_class=true.*'half'"),
        ({"--strong": "apgd@0"}, "strong.*NAME@IMAGES.*'apgd@0'"),
        ({"--strong": "apdg@5"}, "'apdg'.*'apgd'"),
        ({"--declare": "easycore vs easycore"}, "'easycore vs easycore'"),
        ({"--declare": "easiest:aign vs easycore"}, "'easiest:aign vs easycore'.*'easiest"),
        ({"--declare": "easycore vs hardest"}, "'easycore vs hardest'.*'hardest'"),
        ({"--declare": "easycore"}, "METHOD vs METHOD.*'easycore'"),
        ({"--declare": "easycore vs random at matched clean"}, r"'easycore vs random at matched clean'.*\bsetting\b"),
        ({"--primary": "easycore vs random keeping 0.3"}, r"'easycore vs random keeping 0\.3'.*\bsetting\b"),
    ],
)
def test_wrong_use(tmp_path, cli, change, match):
    arguments = list(SMALL)
    for flag, value in change.items():
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    ran = cli("compare", *arguments, "--dry-run", "--out", tmp_path / "grid")
    assert not (tmp_path / "grid").exists()
    assert ran.code == (0 if match is None else 2) and (match is None or re.search(match, ran.err, re.M)), ran.err


@pytest.mark.slow
def test_what_a_method_needs_besides_is_measured_with_the_kept_weights(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    before = stamps(out)
    more = [value if value != "random,easycore" else "random,easycore,herding,deepfool" for value in SMALL]
    assert cli("compare", *more, "--out", out).code == 0
    assert {name: stamps(out)[name] for name in before} == before and done(out, "measure") == 4
    measured = {file.parent: pq.read_schema(file).names for file in out.glob("steps/measure-*/scores.parquet")}
    assert sum((folder / "features.npy").exists() for folder in measured) == 2
    assert sum("boundary" in names for names in measured.values()) == 2
    assert not any("aign" in names for names in measured.values())  # those are in the scoring run's own file
    assert pq.read_table(out / "results.parquet").num_rows == 10


def test_methods_that_need_features_a_model_does_not_have(tmp_path, cli):
    given = [v if v != "random,easycore" else "random,herding" for v in SMALL]
    given[given.index("digits-cnn")] = "tests.support.factories:convolutional_head"
    ran = cli("compare", *given, "--out", tmp_path / "grid")
    assert ran.code == 2 and named(ran.err, "'herding'", "features") and not (tmp_path / "grid").exists()
    assert "craig" in cli("compare", "--list").out


@pytest.mark.slow
def test_scoring_has_options_of_its_own(tmp_path, cli, inline):
    """Variants of AIGN, objectives, axes of scoring: random reads no scores and is there once."""
    out = tmp_path / "grid"
    methods = [v if v != "random,easycore" else "random,easycore,easiest:aign_l1" for v in SMALL]
    more = [
        "--score.hardness",
        "cheap,aign:norm=l1",
        "--score.objective",
        "trades:steps=1",
        "--vary",
        "score.every=1,2",
    ]
    methods[methods.index("--score.epochs") + 1] = "2"
    ran = cli("compare", *methods, *more, "--out", out)
    assert ran.code == 0, ran.err
    table = pq.read_table(out / "results.parquet").to_pylist()
    trained = {(row["method"], row["scoring"], row["seed"]): row["cell"] for row in table}
    assert len(trained) == len(set(trained.values())) == 2 * (2 * 2 + 2)
    assert {scoring is None for method, scoring, _ in trained if method in ("random", "full")} == {True}
    assert {row["score.every"] for row in table} == {"2", "default"}
    objectives = [json.loads(f.read_text())["options"]["objective"] for f in out.glob("steps/score-*/run.json")]
    assert objectives == ["trades:steps=1"] * 4
    declared = {(c.method, c.scoring.partition("every=")[2][:1]) for c in read_plans(record(out)).family}
    assert declared == {(m, every) for m in ("easycore", "easiest:by=aign_l1") for every in ("", "2")}


def settings_of(contrasts):
    """Data and model of the contrasts, in their order."""
    return list(dict.fromkeys((contrast.plan.data, contrast.plan.model) for contrast in contrasts))


@pytest.mark.slow
def test_several_data_sets_and_models(tmp_path, cli, inline):
    """Contrasts are within one data set and model."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "my.npz", x=rng.integers(0, 256, (90, 8, 8), dtype=np.uint8), y=np.arange(90) % 3)
    out = tmp_path / "grid"
    changes = {"digits": f"digits,{tmp_path / 'my.npz'}", "digits-cnn": "digits-cnn,thin-resnet"}
    assert cli("compare", *[changes.get(a, a) for a in SMALL], "--out", out).code == 0
    table = pq.read_table(out / "results.parquet").to_pylist()
    settings = {(row["data"], row["model"]) for row in table}
    assert settings == {(d, m) for d in ("digits", "my.npz") for m in ("digits-cnn", "thin-resnet")}
    contrasts = json.loads((out / "contrasts.json").read_text())["contrasts"]
    assert {(c["data"], c["model"]) for c in contrasts if c["declared"]} == settings
    assert all(f"{c['data']}, {c['model']}: " in c["says"] for c in contrasts)
    found = ComparisonResults(out).contrasts
    table = make_overview_table(found)
    assert len(table.columns) == len(table.rows[0]) and table.columns[-5:-1] == [
        ", ".join(s) for s in settings_of(found)
    ]
    for row in table.rows:
        verdicts = {cell and cell.split(",")[0] for cell in row[-5:-1]}
        assert row[-1] == (f"{verdicts.pop()} in all" if len(verdicts) == 1 and None not in verdicts else "")
    digits_alone = [
        contrast for contrast in found if (contrast.plan.data, contrast.plan.model) == ("digits", "digits-cnn")
    ]
    assert make_overview_table(digits_alone) is None
    declared = [contrast for contrast in found if contrast.declared]
    assert len(table.rows) * 4 >= len(declared) > 0
    groups = (out / "report.html").read_text()
    assert "my.npz, thin-resnet: standard, 20% kept" in groups


def test_columns_that_scoring_does_not_make_are_refused_before_anything_runs(tmp_path, cli):
    given = [value if value != "random,easycore" else "random,tests.support.factories:Mystery" for value in SMALL]
    ran = cli("compare", *given, "--out", tmp_path / "grid")
    assert (
        ran.code == 2
        and named(ran.err, "'tests.support.factories:Mystery'", "'mystery'")
        and not (tmp_path / "grid").exists()
    )


@pytest.mark.slow
def test_held_out_rows_leave_every_methods_pool(tmp_path, digits):
    folder = tmp_path / "g"
    labels = digits.splits["train"].labels
    options = CompareOptions(
        data="digits",
        methods=("easycore", "random"),
        fractions=(0.5,),
        updates=(5,),
        seeds=1,
        vary={"score.epochs": 1},
        val_fraction=0.1,
        eps=(0.1,),
        attack=("fgsm",),
        out=folder,
        workers=1,
    )
    run_comparison(options)
    pool, held = hold_out(labels, 0.1)
    cells = {cell["method"]: cell["steps"] for cell in record(folder)["cells"]}
    assert set(cells) == {"easycore", "random", "random:per_class=true", "full"}
    for name in ("easycore", "random"):
        kept = Coreset.read(folder / "steps" / f"select-{cells[name]['select']}" / "coreset.parquet").keep
        assert not kept[held].any() and kept.sum() == kept_count(0.5, len(pool))
    table = pq.read_table(folder / "results.parquet")
    assert all(0 < value <= 1 for name in ("val_clean", "val_robust") for value in table[name].to_pylist())
    trained = folder / "steps" / f"train-{cells['full']['train']}" / "run.json"
    assert json.loads(trained.read_text())["summary"]["samples"] == len(pool)


def test_open_source_is_what_cells_use(digits):
    assert open_source("digits").splits["train"].fingerprint == digits.splits["train"].fingerprint


MINE = """
import numpy as np
from torch import nn
from easycoreset import Coreset


def pick(scores, count, seed):
    return Coreset.from_order(np.argsort({sign}scores["aign"])[:count], scores)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.mark.slow
def test_a_users_own_code_names_its_cells(tmp_path, monkeypatch):
    """A model in a module of the current folder works, and another version of a method is another cell."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_pkg").mkdir()
    (tmp_path / "mine_pkg" / "__init__.py").write_text("")
    options = CompareOptions(
        data="digits",
        model="mine_net:net",
        methods=["random", "mine_pkg.mine:pick"],
        seeds=1,
        fractions=[0.1],
        updates=[5],
        vary={"score.epochs": 1},
        eps=[0.1],
        attack=["fgsm"],
        limit=20,
        out=tmp_path / "grid",
        workers=1,
    )
    (tmp_path / "mine_net.py").write_text(MINE.format(sign=""))
    kept = {}
    for sign in ("", "-"):
        (tmp_path / "mine_pkg" / "mine.py").write_text(MINE.format(sign=sign))
        for name in [name for name in sys.modules if name.startswith("mine_pkg")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        rows = run_comparison(options).to_pylist()
        kept[sign] = {row["method"]: row["cell"] for row in rows}
        assert {row["model"] for row in rows} == {"mine_net:net"} and {row["samples"] for row in rows} == {20}
    assert (
        kept[""]["random"] == kept["-"]["random"] and kept[""]["mine_pkg.mine:pick"] != kept["-"]["mine_pkg.mine:pick"]
    )
