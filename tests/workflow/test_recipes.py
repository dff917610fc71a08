"""Named experiments, and every method and objective in a grid."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from easycoreset.experiment import run_experiment
from easycoreset.experiment.results import cell_folder
from easycoreset.recipes import PAPER_METHODS, RECIPES
from grids import SMALL

from easycoreset import UsageError, recipes, report
from easycoreset.members import load_attribute
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import CompareOptions, resolve_optimizer
from easycoreset.selection import SELECTORS
from support.messages import named
from support.sources import write_cifar


def test_recipes_are_fixed():
    quick = RECIPES["cifar10-quick"]
    paper = {"cifar10-paper", "cifar100-paper", "imagenet-paper"}
    small = {"digits", "cifar10-quick", "cifar100-quick", "cifar10-objectives", "cifar10-trades"}
    assert set(RECIPES) == {*small, *paper, "cifar10-main", "cifar100-main"}
    cells = load_attribute("recipe", quick)("cifar10:x").cells()
    assert len(cells) == 5 * 3 + 5 * 3 + 3 * 2 + 5 and cells[0].method == "random"
    assert {
        (c.main_eps, c.limit, c.scoring_epochs, c.schedule, c.batch_size, resolve_optimizer(c)["lr"]) for c in cells
    } == {
        (2 / 255, 2000, 15, "onecycle", 128, 0.1),
        (8 / 255, 2000, 15, "onecycle", 128, 0.1),
    }
    others = load_attribute("recipe", RECIPES["cifar100-quick"])("cifar10:x").cells()
    assert set(others) == {c for c in cells if c.objective == "standard" and c.method != "full" and c.seed < 3}
    with pytest.raises(UsageError, match=r"^data\b.*cifar10:DIR"):
        CompareOptions(recipe="cifar10-quick", out="y")
    with pytest.raises(UsageError, match=r"^data\b.*cifar100:DIR"):
        CompareOptions(recipe="cifar100-paper", data="cifar10:x", out="y")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_trades_of_the_whole_on_a_small_cifar(tmp_path, inline):
    """ResNet-18 by `cifar10-trades` on a CIFAR-10 of 50 images, with fewer epochs and a smaller budget of attacks."""
    write_cifar(tmp_path / "data", copies=1)
    recipe = load_attribute("recipe", RECIPES["cifar10-trades"])(f"cifar10:{tmp_path / 'data'}")
    (product,) = recipe.products
    base = dataclasses.replace(product.base, attack=("pgd:steps=2", "autoattack:iterations=2:queries=5"))
    small = dataclasses.replace(recipe, products=(dataclasses.replace(product, base=base, epochs=(1,)),))
    rows = run_experiment(small, tmp_path / "grid", workers=1).to_pylist()
    assert [row["attack"] for row in rows] == [*base.attack, "worst"] and rows[0]["epochs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_the_papers_recipe_on_a_small_cifar(tmp_path, inline):
    """`cifar10-paper` at one of its fractions on a CIFAR-10 of 50 images: a small network, one epoch, weak attacks."""
    write_cifar(tmp_path / "data", copies=1)
    recipe = load_attribute("recipe", RECIPES["cifar10-paper"])(f"cifar10:{tmp_path / 'data'}")
    assert len(recipe.cells()) == 3 * (11 * 3 + 1 + 3 * 3 + 1)

    def shrunk(product):
        base = dataclasses.replace(product.base, model="thin-resnet", scoring_epochs=1, attack=("pgd:steps=2",))
        return dataclasses.replace(
            product,
            base=base,
            epochs=(1,),
            fractions=product.fractions[:1],
            seeds=2,
            first_seed=("autoattack:iterations=2:queries=5@6",),
        )

    small = dataclasses.replace(recipe, products=tuple(map(shrunk, recipe.products)))
    rows = run_experiment(small, tmp_path / "grid", workers=2).to_pylist()
    assert {(row["method"], row["objective"], row["seed"]) for row in rows} == {
        *((method, "standard", seed) for method in (*PAPER_METHODS, "full") for seed in (0, 1)),
        *((m, "trades", seed) for m in ("random", "random:per_class=true", "easycore", "full") for seed in (0, 1)),
    }
    assert {(row["attack"], row["samples"]) for row in rows} == {("pgd:steps=2", 10)}
    for cell in small.cells():
        strong = json.loads((cell_folder(tmp_path / "grid", cell) / "cell.json").read_text())["strong"]
        assert [(line["samples"], line["eps"]) for line in strong] == [(6, cell.contrast_eps)] * (cell.seed == 0)
    page = report(out=tmp_path / "grid").read_text()
    assert "Strong attacks: autoattack:iterations=2:queries=5" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_the_papers_recipe_for_a_folder(tmp_path, cli, png_folder, monkeypatch, inline):
    """`imagenet-paper` by `--dry-run`, and some of its cells, on a tiny folder at 32 pixels."""
    whole = recipes.imagenet_paper(str(png_folder))
    assert len(whole.cells()) == 11 * 3 + 1 + 3 * 3 + 1 and {c.image_size for c in whole.cells()} == {224}
    assert {c.contrast_eps for c in whole.cells() if c.objective == "trades"} == {4 / 255}
    bases = [dataclasses.replace(product.base, image_size=32, scoring_epochs=1) for product in whole.products]
    small = [dataclasses.replace(product, base=base) for product, base in zip(whole.products, bases, strict=True)]
    monkeypatch.setattr(recipes, "imagenet_paper", lambda data: dataclasses.replace(whole, products=tuple(small)))
    line = ("compare", "--recipe", "imagenet-paper", "--out", tmp_path / "grid")
    ran = cli(*line, "--data", "digits")
    assert ran.code == 2 and named(ran.err, "data ", "imagenet-paper", "'digits'")
    ran = cli(*line, "--data", png_folder, "--dry-run", "--json", "--num-workers", 0)
    assert ran.code == 0 and ran.json["missing"] == 44 and not (tmp_path / "grid").exists()
    attacks = {"attack": ("fgsm",), "strong": ("pgd:steps=2",)}
    few = [
        dataclasses.replace(
            product,
            base=dataclasses.replace(product.base, **attacks),
            epochs=(1,),
            fractions=(0.5,),
            methods=product.methods[-1:],
            first_seed=(),
        )
        for product in small[:2]
    ]
    rows = run_experiment(dataclasses.replace(whole, products=tuple(few), primary=""), tmp_path / "grid").to_pylist()
    assert {(row["method"], row["objective"]) for row in rows} == {("moderate", "standard"), ("easycore", "trades")}


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
def test_every_method_that_scoring_can_serve(tmp_path, cli, inline):
    methods = list(SELECTORS)
    methods += ["craig:gradients=adversarial", "gradmatch:gradients=adversarial", "stratified:per_class=true"]
    common = ["--methods", ",".join(methods), "--fractions", "0.1", "--updates", "2", "--seeds", "1"]
    small = ["--score.epochs", "2", "--eps", "0.1", "--attack", "fgsm", "--limit", "20", "--controls", "full"]
    assert cli("compare", "--data", "digits", *common, *small, "--out", tmp_path / "grid").code == 0
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


def test_every_objective_under_autoattack(tmp_path, cli, inline):
    """All of them as an axis of the grid, and an ensemble as an attack of its cells."""
    grid = [
        "--data",
        "digits",
        "--methods",
        "random",
        "--fractions",
        "0.3",
        "--updates",
        "10",
        "--seeds",
        "1",
        "--objectives",
        "standard,trades:steps=2,pgd-at:steps=2,mart:steps=2,fgsm-rs",
        "--score.epochs",
        "1",
        "--attack",
        "pgd:steps=5,autoattack:iterations=3:queries=10",
        "--eps",
        "0.05",
        "--limit",
        "40",
        "--controls",
        "full",
    ]
    assert cli("compare", *grid, "--out", tmp_path / "grid").code == 0
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert len(rows) == 5 * 2 * 3 and {row["objective"].split(":")[0] for row in rows} == set(OBJECTIVES)
    assert {row["attack"] for row in rows} == {"pgd:steps=5", "autoattack:iterations=3:queries=10", "worst"}
