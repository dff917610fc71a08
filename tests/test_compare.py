"""`compare`: a grid that is killed, shared, sharded or spoilt ends with the table of an undisturbed one."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.test_data import write_cifar

from easycoreset import Coreset, UsageError, open_source
from easycoreset.experiment import run_experiment
from easycoreset.experiment.results import cell_folder
from easycoreset.members import load_attribute
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import CompareOptions
from easycoreset.recipes import RECIPES, describe_experiment
from easycoreset.selection import SELECTORS
from easycoreset.tables.coreset import kept_count
from easycoreset.tables.holdout import hold_out

GRID = ["--data", "digits", "--model", "digits-cnn", "--methods", "random,easycore,hardest,easiest:loss,middle",
        "--fractions", "0.1,0.2,0.3,0.4", "--updates", "3", "--seeds", "5", "--scoring-epochs", "1", "--eps", "0.05,0.1",
        "--attack", "pgd:steps=2", "--limit", "20", "--quiet"]  # fmt: skip
HALF = [value if value != "5" else "2" for value in GRID]
SMALL = ["--data", "digits", "--model", "digits-cnn", "--methods", "random,easycore", "--fractions", "0.2", "--updates", "3",
         "--seeds", "2", "--scoring-epochs", "1", "--eps", "0.1", "--attack", "fgsm", "--workers", "1", "--quiet"]  # fmt: skip


def start(out, arguments, *more):
    return subprocess.Popen([sys.executable, "-m", "easycoreset", "compare", *arguments, *more, "--out", out],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def finish(process):
    assert process.wait(timeout=600) == 0, process.stderr.read().decode()
    process.stderr.close()


def results(out, seeds=5):
    """The table of some seeds without times and hosts, in a fixed order."""
    table = pq.read_table(out / "results.parquet").filter(pc.field("seed") < seeds)
    kept = table.drop_columns(["seconds", "selection_seconds", "selection_mb", "host"])
    return kept.sort_by([("cell", "ascending"), ("attack", "ascending"), ("eps", "ascending")])


def done(out):
    return len(list((out / "cells").glob("[0-9a-f]*/cell.json")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of more than 100 cells."""
    out = tmp_path_factory.mktemp("whole") / "grid"
    finish(start(out, GRID, "--workers", "2"))
    assert done(out) == 105  # 5 methods x 4 fractions x 5 seeds, and training on everything
    return out


@pytest.mark.slow
def test_killed_ten_times(whole, tmp_path):
    rng, out, kills = random.Random(0), tmp_path / "grid", 0
    while kills < 10:
        process = start(out, GRID, "--workers", "2")
        before = done(out)
        deadline = time.monotonic() + 60
        while done(out) < before + 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.0))
        assert process.poll() is None, "it ended before it could be killed ten times"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        kills += 1
    finish(start(out, GRID, "--workers", "2"))
    assert results(out).equals(results(whole))
    assert not list((out / "cells").glob(".*"))


@pytest.mark.slow
def test_two_runs_on_one_folder_do_no_cell_twice(whole, tmp_path):
    out = tmp_path / "grid"
    both = [start(out, HALF, "--workers", "1") for _ in range(2)]
    for process in both:
        finish(process)
    assert results(out).equals(results(whole, seeds=2))
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    begun = {path.name: path.read_text().split() for path in (out / "locks").glob("cell-*")}
    assert len(begun) == 42 and all(len(pids) == 1 for pids in begun.values())
    assert len({pid for pids in begun.values() for pid in pids}) == 2  # both had a share


@pytest.mark.slow
def test_shards_together_equal_the_whole(whole, tmp_path):
    for number in (1, 2, 3):
        finish(start(tmp_path / f"{number}", HALF, "--shard", f"{number}/3", "--workers", "2"))
    sizes = [done(tmp_path / f"{number}") for number in (1, 2, 3)]
    assert sizes == [14, 14, 14]
    together = tmp_path / "together"
    for number in (1, 2, 3):
        shutil.copytree(tmp_path / f"{number}", together, dirs_exist_ok=True)
    finish(start(together, HALF, "--workers", "1"))
    assert results(together).equals(results(whole, seeds=2))


@pytest.mark.slow
def test_a_grid_is_extended_and_other_grids_are_refused(tmp_path, cli):
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
        assert ran.code == 2 and "was made with bases=" in ran.err and match in ran.err
    ran = cli("compare", "--recipe", "digits", "--out", out)
    assert ran.code == 2 and "was made with" in ran.err


@pytest.mark.slow
def test_spoilt_cells_are_computed_again(tmp_path, cli):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--out", out).code == 0
    before = results(out)
    cells = sorted((out / "cells").iterdir())
    (cells[0] / "cell.json").write_text("{")
    (cells[1] / "predictions.parquet").write_bytes(b"junk")
    (cells[2] / "predictions.parquet").unlink()
    ran = cli("compare", *SMALL, "--out", out)
    assert ran.code == 0 and ran.err.count("is corrupt and is computed again") == 3
    assert results(out).equals(before)


@pytest.mark.slow
def test_a_kill_while_a_cell_is_tidied_up_loses_nothing(tmp_path, cli):
    out = tmp_path / "grid"
    assert cli("compare", *SMALL, "--keep-weights", "--out", out).code == 0
    before, cells = results(out), sorted((out / "cells").iterdir())
    for cell, gone in zip(
        cells, (["model/run.json"], ["model/model.safetensors"], ["coreset.parquet"], ["cell.json"], []), strict=False
    ):
        cell.rename(cell.with_name(f".{cell.name}.tmp"))
        work = cell.with_name(f".{cell.name}.tmp")
        (work / "evaluation-0").mkdir()
        (work / "evaluation-0" / "evaluation.json").write_text('{"status": "done", "options": {}}')
        for name in gone:
            (work / name).unlink(missing_ok=True)
    assert cli("compare", *SMALL, "--keep-weights", "--out", out).code == 0
    assert results(out).equals(before) and not list((out / "cells").glob(".*"))


@pytest.mark.slow
def test_other_data_of_the_same_name_is_refused_and_the_first_declaration_stays(tmp_path, cli):
    rng, out = np.random.default_rng(0), tmp_path / "grid"
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "my.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 3)
    arguments = [{"digits": str(tmp_path / "a" / "my.npz")}.get(a, a) for a in SMALL]
    assert cli("compare", *arguments, "--out", out).code == 0
    assert json.loads((out / "run.json").read_text())["declared"] == {"standard": "equal updates"}
    extended = [
        {"3": "3,4"}.get(a, a) for a in arguments
    ]  # several budgets: another contrast by itself, but the first stays
    assert cli("compare", *extended, "--out", out).code == 0
    assert json.loads((out / "run.json").read_text())["declared"] == {"standard": "equal updates"}
    other = [{"digits": str(tmp_path / "b" / "my.npz")}.get(a, a) for a in SMALL]
    ran = cli("compare", *other, "--out", out)
    assert ran.code == 2 and "holds cells of other data" in ran.err


@pytest.mark.slow
def test_minutes_stop_in_time_and_the_next_start_goes_on(tmp_path, cli):
    out = tmp_path / "grid"
    ran = cli("compare", *SMALL, "--minutes", "0.05", "--out", out)
    assert ran.code == 0 and "time is up" in ran.err and done(out) < 6
    assert cli("compare", *SMALL, "--out", out).code == 0
    assert done(out) == 6


@pytest.mark.slow
def test_published_coresets(tmp_path, cli, digits):
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
    assert ran.code == 2 and "index must be in 0..1437; got 99999" in ran.err and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", "1\n1", "a sample is named twice"),
        ("a.txt", "", "holds no index"),
        ("a.txt", "digits/9999", "neither an index nor a sample id"),
        ("a.json", "{}", "not a JSON list"),
        ("a.json", "[0.5, 1]", "'0.5' is neither an index"),
        ("a.json", "[true, false]", "'True' is neither an index"),
        ("a.npz", "junk", "not a list of indices"),
        ("a.npy", "junk", "not a list of indices"),
        ("a.parquet", "junk", "not a readable Parquet"),
    ],
)
def test_bad_lists(tmp_path, cli, name, content, match):
    (tmp_path / name).write_text(content)
    arguments = [f"file:{tmp_path / name}" if a == "random,easycore" else a for a in SMALL]
    ran = cli("compare", *arguments, "--out", tmp_path / "grid")
    assert ran.code == 2 and match in ran.err and not (tmp_path / "grid").exists(), ran.err


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"--methods": "random,esycore"}, "did you mean 'easycore'"),
        ({"--methods": "random,random"}, "methods must be given once each"),
        ({"--fractions": "0.5,1.5"}, "fractions must be in (0, 1]; got 1.5"),
        ({"--eps": "2"}, "eps must be in [0, 1]"),
        ({"--attack": "pdg"}, "did you mean 'pgd'"),
        ({"--objectives": "trade"}, "did you mean 'trades'"),
        ({"--epochs": "3"}, "exactly one of epochs and updates must be given; got both"),
        ({"--updates": "3,x"}, "must be whole numbers"),
        ({"--shard": "3/2"}, "shard must be I/N"),
        ({"--minutes": "0"}, "minutes must be > 0"),
        ({"--workers": "0"}, "workers must be >= 1"),
        ({"--main-eps": "0.3"}, "main_eps must be one of eps"),
        ({"--recipe": "digits"}, "recipe 'digits' fixes model"),
        ({"--recipe": "cifar10-quik"}, 'Did you mean "cifar10-quick"'),
        ({"--data": "digit"}, "did you mean 'digits'"),
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
    assert ran.code == 2 and match in ran.err and not (tmp_path / "grid").exists(), ran.err


def test_recipes_are_fixed():
    quick = RECIPES["cifar10-quick"]
    paper = {"cifar10-paper", "cifar100-paper"}
    assert set(RECIPES) == {"digits", "cifar10-quick", "cifar10-objectives", "cifar10-trades", *paper} and quick
    cells = load_attribute("recipe", quick)("cifar10:x").cells()
    assert len(cells) == 5 * 3 + 5 * 3 + 3 * 2 + 5 and cells[0].method == "random"
    assert {(c.main_eps, c.limit, c.scoring_epochs, c.schedule, c.batch_size, c.lr) for c in cells} == {
        (2 / 255, 2000, 15, "onecycle", 128, 0.1), (8 / 255, 2000, 15, "onecycle", 128, 0.1)}  # fmt: skip
    with pytest.raises(UsageError, match="data must be cifar10:DIR"):
        CompareOptions(recipe="cifar10-quick", out="y")
    with pytest.raises(UsageError, match="data must be cifar100:DIR"):
        CompareOptions(recipe="cifar100-paper", data="cifar10:x", out="y")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_trades_of_the_whole_on_a_small_cifar(tmp_path):
    """ResNet-18 by `cifar10-trades` on a CIFAR-10 of 50 images, with fewer epochs and a smaller budget of attacks."""
    write_cifar(tmp_path / "data", copies=1)
    recipe = load_attribute("recipe", RECIPES["cifar10-trades"])(f"cifar10:{tmp_path / 'data'}")
    (product,) = recipe.products
    base = dataclasses.replace(product.base, attack=("pgd:steps=2", "autoattack:iterations=3:queries=10"))
    small = dataclasses.replace(recipe, products=(dataclasses.replace(product, base=base, epochs=(2,)),))
    rows = run_experiment(small, tmp_path / "grid", workers=1).to_pylist()
    assert [row["attack"] for row in rows] == [*base.attack, "worst"] and rows[0]["epochs"] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_the_papers_recipe_runs_and_stops_in_time(tmp_path):
    """ResNet-18 by `cifar10-paper` on a CIFAR-10 of 50 images, for a minute and a half on the CPU."""
    write_cifar(tmp_path / "data", copies=1)
    command = [sys.executable, "-m", "easycoreset", "compare", "--recipe", "cifar10-paper", "--data", f"cifar10:{tmp_path / 'data'}",
               "--minutes", "1.5", "--workers", "2", "--quiet", "--out", tmp_path / "grid"]  # fmt: skip
    started = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0 and "time is up" in ran.stderr, ran.stderr
    assert time.monotonic() - started < 130
    assert pq.read_table(tmp_path / "grid" / "results.parquet").num_rows == 4 * done(tmp_path / "grid") > 0


def test_cells_do_not_depend_on_where_the_data_lies(tmp_path):
    cells = [load_attribute("recipe", RECIPES["cifar10-paper"])(f"cifar10:{place}").cells() for place in ("a", "b/c")]
    assert [c.name for c in cells[0]] == [c.name for c in cells[1]]
    assert cell_folder(tmp_path, cells[0][0]).name == cells[0][0].name


@pytest.mark.slow
def test_dry_run_writes_nothing(tmp_path, cli):
    ran = cli("compare", *SMALL, "--dry-run", "--json", "--out", tmp_path / "grid")
    assert ran.code == 0 and not (tmp_path / "grid").exists()
    assert (ran.json["cells"], ran.json["missing"], ran.json["updates"]) == (6, 6, 18) and ran.json["seconds"] > 0


@pytest.mark.slow
def test_every_method_that_scoring_can_serve(tmp_path):
    methods = list(SELECTORS)
    methods += ["craig:gradients=adversarial", "gradmatch:gradients=adversarial", "stratified:per_class=true"]
    common = ["--methods", ",".join(methods), "--fractions", "0.1", "--updates", "2", "--seeds", "1"]
    small = ["--scoring-epochs", "2", "--eps", "0.1", "--attack", "fgsm", "--limit", "20", "--workers", "2"]
    finish(start(tmp_path / "grid", ["--data", "digits", *common, *small, "--quiet"]))
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert [row["method"] for row in rows] == [*methods, "full"]
    own = {row["method"]: row for row in rows}
    assert {name for name, row in own.items() if row["weighted"]} == {m for m in methods if m[:5] in ("craig", "gradm")}
    assert all(
        row["selection_mb"] is not None and row["selection_seconds"] >= 0 for row in rows if row["method"] != "full"
    )
    (scores,) = (tmp_path / "grid" / "scores").iterdir()
    assert (scores / "features.npy").exists() and (scores / "features_adv.npy").exists()
    assert {"curvature", "vog", "boundary"} <= set(pq.read_schema(scores / "scores.parquet").names)
    page = (tmp_path / "grid" / "report.html").read_text()
    assert "selection, MB" in page and "gradmatch:gradients=adversarial" in page


def test_a_scoring_run_is_asked_for_the_features_that_are_missing(tmp_path):
    finish(start(tmp_path / "grid", SMALL))
    scores = min((tmp_path / "grid" / "scores").iterdir())
    assert not (scores / "features.npy").exists()
    stamp = (scores / "scores.parquet").stat().st_mtime_ns
    more = [value if value != "random,easycore" else "random,easycore,herding" for value in SMALL]
    finish(start(tmp_path / "grid", more))
    assert (scores / "features.npy").exists() and (scores / "scores.parquet").stat().st_mtime_ns == stamp
    assert pq.read_table(tmp_path / "grid" / "results.parquet").num_rows == 8


def test_scores_of_an_older_version_without_a_column_are_made_anew(tmp_path):
    grid = tmp_path / "grid"
    finish(start(grid, SMALL))
    for scored in (grid / "scores").iterdir():
        table = pq.read_table(scored / "scores.parquet")
        pq.write_table(table.drop_columns(["grand"]), scored / "scores.parquet")
    given = [v if v != "random,easycore" else "random,easycore,grand,tests.factories:by_features" for v in SMALL]
    finish(start(grid, given))
    assert pq.read_table(grid / "results.parquet").num_rows == 10


def test_methods_that_need_features_a_model_does_not_have(tmp_path, cli):
    given = [v if v != "random,easycore" else "random,herding" for v in SMALL]
    given[given.index("digits-cnn")] = "tests.factories:convolutional_head"
    ran = cli("compare", *given, "--out", tmp_path / "grid")
    assert ran.code == 2 and "method 'herding' needs features" in ran.err and not (tmp_path / "grid").exists()
    assert "craig" in cli("compare", "--list").out


def test_what_an_older_version_left_is_made_anew(tmp_path):
    """An unfinished cell and a scoring run whose options had other names then."""
    grid = tmp_path / "grid"
    finish(start(grid, SMALL))
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
    finish(start(grid, [v if v != "random,easycore" else "random,easycore,easiest:loss" for v in SMALL]))
    found = results(grid)
    assert found.filter(pc.field("method") != "easiest:by=loss").equals(expected) and found.num_rows == 8


def test_columns_that_scoring_does_not_make_are_refused_before_anything_runs(tmp_path, cli):
    given = [value if value != "random,easycore" else "random,tests.factories:Mystery" for value in SMALL]
    ran = cli("compare", *given, "--out", tmp_path / "grid")
    assert ran.code == 2 and "'tests.factories:Mystery' needs 'mystery'" in ran.err and not (tmp_path / "grid").exists()


@pytest.mark.slow
def test_held_out_rows_leave_every_methods_pool(tmp_path, digits):
    folder, labels = tmp_path / "g", digits.splits["train"].labels
    describe = CompareOptions(data="digits", methods=("easycore", "random"), fractions=(0.5,), updates=(5,), seeds=1,
                              scoring_epochs=1, val_fraction=0.1, eps=(0.1,), attack=("fgsm",), out=folder)  # fmt: skip
    run_experiment(describe_experiment(describe), folder, keep_weights=True, workers=1)
    pool, held = hold_out(labels, 0.1)
    cells = {
        json.loads(file.read_text())["options"]["method"]: file.parent for file in folder.glob("cells/*/cell.json")
    }
    assert set(cells) == {"easycore", "random", "full"}
    for name in ("easycore", "random"):
        kept = Coreset.read(cells[name] / "coreset.parquet").keep
        assert not kept[held].any() and kept.sum() == kept_count(0.5, len(pool))
    table = pq.read_table(folder / "results.parquet")
    assert all(0 < value <= 1 for name in ("val_clean", "val_robust") for value in table[name].to_pylist())
    assert json.loads((cells["full"] / "model" / "run.json").read_text())["summary"]["samples"] == len(pool)


def test_every_objective_under_autoattack(tmp_path):
    """All of them as an axis of the grid, and an ensemble as an attack of its cells."""
    grid = ["--data", "digits", "--methods", "random,easycore", "--fractions", "0.3", "--updates", "10", "--seeds", "1",
            "--objectives", "standard,trades:steps=2,pgd-at:steps=2,mart:steps=2,fgsm-rs", "--scoring-epochs", "1",
            "--attack", "pgd:steps=5,autoattack:iterations=3:queries=10", "--eps", "0.05", "--limit", "40"]  # fmt: skip
    finish(start(tmp_path / "grid", grid, "--workers", "2", "--quiet"))
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert len(rows) == 5 * 3 * 3 and {row["objective"].split(":")[0] for row in rows} == set(OBJECTIVES)
    assert {row["attack"] for row in rows} == {"pgd:steps=5", "autoattack:iterations=3:queries=10", "worst"}


def test_outcomes_agree_with_the_results(whole):
    table = pq.read_table(whole / "results.parquet").to_pylist()
    for row in table[:20]:
        outcomes = pq.read_table(whole / "cells" / row["cell"] / "predictions.parquet").to_pandas()
        at = outcomes[(outcomes["attack"] == row["attack"]) & np.isclose(outcomes["eps"], row["eps"])]
        assert 1 - at["broken"].mean() == pytest.approx(row["accuracy"]) and len(at) == row["samples"]
        clean = outcomes[outcomes["attack"] == "clean"]
        assert (clean["broken"] == (clean["pred"] != clean["label"])).all()
        assert 1 - clean["broken"].mean() == pytest.approx(row["clean"])


def test_open_source_is_what_cells_use(digits):
    assert open_source("digits").splits["train"].fingerprint == digits.splits["train"].fingerprint
