"""Named experiments, and every method and objective in a grid."""

import dataclasses
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from tests.test_data import write_cifar

from easycoreset import UsageError
from easycoreset.experiment import run_experiment
from easycoreset.experiment.results import cell_folder
from easycoreset.members import load_attribute
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import CompareOptions
from easycoreset.recipes import RECIPES
from easycoreset.selection import SELECTORS
from grids import SMALL, done, finish, start


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


def test_every_objective_under_autoattack(tmp_path):
    """All of them as an axis of the grid, and an ensemble as an attack of its cells."""
    grid = ["--data", "digits", "--methods", "random,easycore", "--fractions", "0.3", "--updates", "10", "--seeds", "1",
            "--objectives", "standard,trades:steps=2,pgd-at:steps=2,mart:steps=2,fgsm-rs", "--scoring-epochs", "1",
            "--attack", "pgd:steps=5,autoattack:iterations=3:queries=10", "--eps", "0.05", "--limit", "40"]  # fmt: skip
    finish(start(tmp_path / "grid", grid, "--workers", "2", "--quiet"))
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert len(rows) == 5 * 3 * 3 and {row["objective"].split(":")[0] for row in rows} == set(OBJECTIVES)
    assert {row["attack"] for row in rows} == {"pgd:steps=5", "autoattack:iterations=3:queries=10", "worst"}
