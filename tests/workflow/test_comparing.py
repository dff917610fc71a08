"""`compare`: a grid that is killed, shared, sharded or spoilt ends with the table of an undisturbed one."""

import importlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from grids import SMALL, done, results

from easycoreset import Coreset, open_source
from easycoreset.experiment import run_experiment
from easycoreset.options import CompareOptions
from easycoreset.pipeline.experiment_options import build_experiment
from easycoreset.run_folders import open_run_folder
from easycoreset.statistics import read_plans
from easycoreset.tables.coreset import kept_count
from easycoreset.tables.holdout import hold_out
from support.messages import named


@pytest.mark.slow
def test_a_grid_is_extended_and_other_grids_are_refused(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    stamps = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*/cell.json")}
    assert len(stamps) == 6
    more = [
        {"random,easycore": "random,easycore,hardest", "0.2": "0.2,0.3", "2": "3", "3": "3,4"}.get(a, a) for a in SMALL
    ]
    assert cli("compare", *more, "--out", out).code == 0
    assert done(out) == 3 * 2 * 2 * 3 + 6 and all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    for old, new, match in [("0.1", "0.2", "eps"), ("fgsm", "noise", "attack"), ("digits-cnn", "thin-resnet", "model")]:
        ran = cli("compare", *[new if a == old else a for a in SMALL], "--out", out)
        assert ran.code == 2 and named(ran.err, "run.json", "bases[0].", match)
    ran = cli("compare", "--recipe", "digits", "--out", out)
    assert ran.code == 2 and named(ran.err, "run.json", "(now ")


def test_from_python(tmp_path):
    import easycoreset as ec

    grid = {
        "data": "digits",
        "model": "digits-cnn",
        "methods": ["random", "easycore"],
        "fractions": 0.2,
        "updates": 3,
        "seeds": 2,
        "scoring_epochs": 1,
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


def test_a_script_without_a_guard_says_what_it_lacks(tmp_path):
    call = f"import easycoreset as ec; ec.compare(data='digits', methods='random', fractions=[0.1, 0.2, 0.3, 0.4], updates=1, out={str(tmp_path / 'g')!r})"
    (tmp_path / "script.py").write_text(call)
    ran = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert ran.returncode and ran.stderr.count("compare must") <= 8  # it is not tried again for every cell
    assert ran.stderr.splitlines()[-1].endswith('`if __name__ == "__main__":`')


@pytest.mark.slow
def test_spoilt_cells_are_computed_again(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    before = results(out)
    cells = sorted((out / "cells").iterdir())
    (cells[0] / "cell.json").write_text("{")
    (cells[1] / "predictions.parquet").write_bytes(b"junk")
    (cells[2] / "predictions.parquet").unlink()
    ran = cli("compare", *SMALL, "--out", out)
    assert ran.code == 0 and ran.err.count("corrupt") == 3
    assert results(out).equals(before)


@pytest.mark.slow
def test_a_kill_while_a_cell_is_tidied_up_loses_nothing(tmp_path, cli, inline):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--keep-weights", "--out", out).code == 0
    before = results(out)
    cells = sorted((out / "cells").iterdir())
    for cell, gone in zip(
        cells, (["model/run.json"], ["model/model.safetensors"], ["coreset.parquet"], ["cell.json"], []), strict=False
    ):
        cell.rename(cell.with_name(f".{cell.name}.tmp"))
        work = cell.with_name(f".{cell.name}.tmp")
        with open_run_folder(work / "evaluation-0", "evaluate", {"eps": [1]}, record="evaluation.json"):
            pass
        for name in gone:
            (work / name).unlink(missing_ok=True)
    assert cli("compare", *SMALL, "--keep-weights", "--out", out).code == 0
    assert results(out).equals(before) and not list((out / "cells").glob(".*"))


def declared(out):
    plans = read_plans(json.loads((out / "run.json").read_text()))
    return [(contrast.method, contrast.kind, len(contrast.frontier)) for contrast in plans.family]


@pytest.mark.slow
def test_other_data_of_the_same_name_is_refused_and_the_first_declaration_stays(tmp_path, cli, inline):
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
    assert ran.code == 2 and named(ran.err, out, "fingerprint")


@pytest.mark.slow
def test_minutes_stop_in_time_and_the_next_start_goes_on(tmp_path, cli):
    out = tmp_path / "grid"
    ran = cli("compare", *SMALL, "--minutes", "0.05", "--out", out)
    assert ran.code == 0 and named(ran.err, "of 6 cells") and done(out) < 6
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
        ({"--workers": "0"}, r"workers.*\b0$"),
        ({"--main-eps": "0.3"}, r"main_eps.*\beps\b.*\b0\.3\b"),
        ({"--recipe": "digits"}, "recipe 'digits'.*model"),
        ({"--recipe": "cifar10-quik"}, "'cifar10-quik'.*'cifar10-quick'"),
        ({"--data": "digit"}, "'digit'.*'digits'"),
        ({"--controls": "half"}, "controls.*full, random:per_class=true.*'half'"),
        ({"--strong": "apgd@0"}, "strong.*ATTACK@IMAGES.*'apgd@0'"),
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
    ran = cli("compare", *arguments, "--out", tmp_path / "grid")
    assert ran.code == 2 and re.search(match, ran.err, re.M) and not (tmp_path / "grid").exists(), ran.err


def test_a_scoring_run_is_asked_for_the_features_that_are_missing(tmp_path, cli, inline):
    assert cli("compare", *SMALL, "--out", tmp_path / "grid").code == 0
    scores = min((tmp_path / "grid" / "scores").iterdir())
    assert not (scores / "features.npy").exists()
    stamp = (scores / "scores.parquet").stat().st_mtime_ns
    more = [value if value != "random,easycore" else "random,easycore,herding" for value in SMALL]
    assert cli("compare", *more, "--out", tmp_path / "grid").code == 0
    assert (scores / "features.npy").exists() and (scores / "scores.parquet").stat().st_mtime_ns == stamp
    assert pq.read_table(tmp_path / "grid" / "results.parquet").num_rows == 8


def test_scores_of_an_older_version_without_a_column_are_made_anew(tmp_path, cli, inline):
    grid = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", grid).code == 0
    for scored in (grid / "scores").iterdir():
        table = pq.read_table(scored / "scores.parquet")
        pq.write_table(table.drop_columns(["grand"]), scored / "scores.parquet")
    given = [
        v if v != "random,easycore" else "random,easycore,grand,tests.support.factories:by_features" for v in SMALL
    ]
    assert cli("compare", *given, "--out", grid).code == 0
    assert pq.read_table(grid / "results.parquet").num_rows == 10


def test_methods_that_need_features_a_model_does_not_have(tmp_path, cli):
    given = [v if v != "random,easycore" else "random,herding" for v in SMALL]
    given[given.index("digits-cnn")] = "tests.support.factories:convolutional_head"
    ran = cli("compare", *given, "--out", tmp_path / "grid")
    assert ran.code == 2 and named(ran.err, "'herding'", "features") and not (tmp_path / "grid").exists()
    assert "craig" in cli("compare", "--list").out


def test_what_an_older_version_left_is_made_anew(tmp_path, cli, inline):
    """An unfinished cell and a scoring run whose options had other names then."""
    grid = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", grid).code == 0
    expected = results(grid)
    place = min((grid / "cells").iterdir())
    shutil.rmtree(place)
    left = place.with_name(f".{place.name}.tmp") / "model"
    left.mkdir(parents=True)
    scored = min((grid / "scores").iterdir())
    for folder in (left, scored):
        record = json.loads((scored / "run.json").read_text())
        old = {"command": "train" if folder is left else "score", "options": {"learning_rate": 1}}
        (folder / "run.json").write_text(json.dumps(record | old | {"status": "running"}))
    (scored / "scores.parquet").unlink()
    assert (
        cli(
            "compare", *[v if v != "random,easycore" else "random,easycore,easiest:loss" for v in SMALL], "--out", grid
        ).code
        == 0
    )
    found = results(grid)
    assert found.filter(pc.field("method") != "easiest:by=loss").equals(expected) and found.num_rows == 8


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
    describe = CompareOptions(
        data="digits",
        methods=("easycore", "random"),
        fractions=(0.5,),
        updates=(5,),
        seeds=1,
        scoring_epochs=1,
        val_fraction=0.1,
        eps=(0.1,),
        attack=("fgsm",),
        out=folder,
    )
    run_experiment(build_experiment(describe), folder, keep_weights=True, workers=1)
    pool, held = hold_out(labels, 0.1)
    cells = {
        json.loads(file.read_text())["options"]["method"]: file.parent for file in folder.glob("cells/*/cell.json")
    }
    assert set(cells) == {"easycore", "random", "random:per_class=true", "full"}
    for name in ("easycore", "random"):
        kept = Coreset.read(cells[name] / "coreset.parquet").keep
        assert not kept[held].any() and kept.sum() == kept_count(0.5, len(pool))
    table = pq.read_table(folder / "results.parquet")
    assert all(0 < value <= 1 for name in ("val_clean", "val_robust") for value in table[name].to_pylist())
    assert json.loads((cells["full"] / "model" / "run.json").read_text())["summary"]["samples"] == len(pool)


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
        scoring_epochs=1,
        eps=[0.1],
        attack=["fgsm"],
        limit=20,
        out=tmp_path / "grid",
    )
    (tmp_path / "mine_net.py").write_text(MINE.format(sign=""))
    kept = {}
    for sign in ("", "-"):
        (tmp_path / "mine_pkg" / "mine.py").write_text(MINE.format(sign=sign))
        for name in [name for name in sys.modules if name.startswith("mine_pkg")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        rows = run_experiment(build_experiment(options), tmp_path / "grid", workers=1).to_pylist()
        kept[sign] = {row["method"]: row["cell"] for row in rows}
        assert {row["model"] for row in rows} == {"mine_net:net"} and {row["samples"] for row in rows} == {20}
    assert (
        kept[""]["random"] == kept["-"]["random"] and kept[""]["mine_pkg.mine:pick"] != kept["-"]["mine_pkg.mine:pick"]
    )
