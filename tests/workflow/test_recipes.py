"""Recipes: YAML of this package and of users, extended and narrowed by flags; every method and objective in a grid."""

import re

import pyarrow.parquet as pq
import pytest
import yaml
from grids import SMALL, done, stamps
from plans import options, plan, recipe

from easycoreset import UsageError, report
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import CompareOptions
from easycoreset.selection import SELECTORS
from easycoreset.workflow.comparing import run_comparison
from easycoreset.workflow.recipes import read_grid, recipe_names, recipe_text
from support.messages import named
from support.sources import write_cifar

PAPER = {"cifar10-paper", "cifar10-paper-hour", "cifar100-paper", "imagenet-paper"}
BEYOND = {"cifar10-smoothing", "cifar10-corruptions"}
SMALL_RECIPES = {"digits", "cifar10-quick", "cifar100-quick", "cifar10-objectives", "cifar10-trades"}
WARNS = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")


@pytest.fixture
def cifar(tmp_path):
    return write_cifar(tmp_path / "data", copies=1)


@WARNS
def test_recipes_are_fixed(cifar):
    assert set(recipe_names()) == {*SMALL_RECIPES, *PAPER, "cifar10-main", "cifar100-main", "cifar10-dynamic", *BEYOND}
    cells = plan("cifar10-quick", data=cifar).cells
    assert len(cells) == 5 * 3 + 5 * 3 + 3 * 2 + 5 and cells[0].method == "random"
    assert {(c.main_eps, c.variant, c.scoring or "") for c in cells} == {
        (2 / 255, "schedule=onecycle", ""),
        (8 / 255, "schedule=onecycle", ""),
    }
    limits = {(step.options["eps"][0] == c.main_eps, step.options["limit"]) for c in cells for step, _ in c.evaluations}
    assert limits == {(True, None), (False, 2000)}
    others = read_grid(CompareOptions(recipe="cifar100-quick", data="cifar100:x", out="y")).products
    first = read_grid(CompareOptions(recipe="cifar10-quick", data="cifar10:x", out="y")).products[:2]
    assert [p.methods for p in others] == [p.methods for p in first]
    with pytest.raises(UsageError, match=r"^data\b.*cifar10:DIR"):
        read_grid(CompareOptions(recipe="cifar10-quick", out="y"))
    with pytest.raises(UsageError, match=r"^data\b.*cifar100:DIR"):
        read_grid(CompareOptions(recipe="cifar100-paper", data="cifar10:x", out="y"))


def test_the_demo_is_what_it_says():
    cells = plan("digits").cells
    assert len(cells) == len({cell.name for cell in cells}) == 3 * (5 * 2 + 1 + 2 + 1)
    assert len({cell.steps["score"].key for cell in cells if "score" in cell.steps}) == 3
    assert all(cell.updates <= 200 for cell in cells)


@WARNS
def test_a_second_attack_on_the_first_seed_is_plain_yaml(cifar):
    cells = plan("cifar10-main", data=cifar).cells
    assert len(cells) == 10 * (3 + 5) + 5 * 4
    strong = {}
    for cell in cells:
        found = [(*s.options["attack"], s.options["limit"]) for s, is_strong in cell.evaluations if is_strong]
        strong.setdefault(cell.seed, set()).update(found)
    assert strong[0] == {("apgd", 500), ("autoattack", 200)} and strong[1] == strong[9] == {("apgd", 500)}


@WARNS
def test_the_papers_table_in_an_hour(cifar):
    """All methods of the paper's table, in order of importance; every budget has as many updates."""
    cells = plan("cifar10-paper-hour", data=cifar).cells
    methods = {cell.method for cell in plan("cifar10-paper", data=cifar).cells}
    assert {cell.method for cell in cells if cell.objective == "standard"} == methods
    assert {cell.method for cell in cells if cell.objective == "trades"} == {"random", "easycore", "full"}
    assert {cell.updates for cell in cells} == {5880} and [cell.method for cell in cells[:2]] == ["random", "easycore"]
    strong = {(c.objective, c.method, c.seed) for c in cells for _, is_strong in c.evaluations if is_strong}
    assert strong == {(o, m, 0) for o in ("standard", "trades") for m in ("random", "easycore", "full")}


@WARNS
def test_trades_of_the_whole_is_one_cell(cifar):
    """By `cifar10-trades`; ResNet-18, TRADES and AutoAttack are run by other tests."""
    (cell,) = plan("cifar10-trades", data=cifar).cells
    assert (cell.model, cell.method, cell.objective, cell.epochs) == ("resnet18", "full", "trades", 30)
    assert [step.options["attack"] for step, _ in cell.evaluations] == [("pgd",), ("autoattack",)]


@pytest.mark.slow
@WARNS
def test_the_papers_recipe_on_a_small_cifar(tmp_path, inline, cifar):
    """`cifar10-paper` at one of its fractions on a CIFAR-10 of 50 images: a small network, one epoch, weak attacks."""
    assert len(plan("cifar10-paper", data=cifar).cells) == 3 * (11 * 3 + 1 + 3 * 3 + 1)
    text = recipe_text("cifar10-paper").replace("autoattack@512", "autoattack:iterations=2:queries=5@6")
    text = text.replace("easycore:per_class=true, easiest:by=loss, hardest:by=el2n, hardest:by=forgetting, ", "")
    (tmp_path / "small.yaml").write_text(text.replace("seeds: 3", "seeds: 2"))
    changes = {"model": "thin-resnet", "vary": {"score.epochs": 1}, "attack": "pgd:steps=2", "epochs": 1}
    changes |= {"fractions": 0.5, "data": cifar}
    rows = run_comparison(options(str(tmp_path / "small.yaml"), tmp_path / "grid", **changes)).to_pylist()
    paper = yaml.safe_load(text)["products"][0]["methods"]
    assert {(row["method"], row["objective"], row["seed"]) for row in rows} == {
        *((method, "standard", seed) for method in (*paper, "full") for seed in (0, 1)),
        *((m, "trades", seed) for m in ("random", "random:per_class=true", "easycore", "full") for seed in (0, 1)),
    }
    usual = [row for row in rows if not row["strong"]]
    assert {(row["attack"], row["samples"]) for row in usual} == {("pgd:steps=2", 10)}
    strong = [row for row in rows if row["strong"]]
    assert {(row["seed"], row["samples"]) for row in strong} == {(0, 6)} and len(strong) == 8 + 4
    assert all(row["eps"] == row["main"] for row in strong)
    page = report(out=tmp_path / "grid").path.read_text()
    assert "Further attacks: autoattack:iterations=2:queries=5" in page


@pytest.mark.slow
@WARNS
def test_the_papers_recipe_for_a_folder(tmp_path, cli, png_folder, inline):
    """`imagenet-paper` by `--dry-run`, and some of its cells, on a tiny folder at 32 pixels."""
    whole = read_grid(options("imagenet-paper", data=str(png_folder)))
    assert {p.image_size for p in whole.products} == {224} and [p.main_eps for p in whole.products] == [
        1 / 255,
        4 / 255,
    ]
    line = ("compare", "--recipe", "imagenet-paper", "--out", tmp_path / "grid", "--image-size", 32)
    ran = cli(*line, "--data", "digits")
    assert ran.code == 2 and named(ran.err, "data ", "imagenet-paper", "'digits'")
    few = ("--epochs", 1, "--score.epochs", 1, "--num-workers", 0, "--model", "thin-resnet")
    ran = cli(*line, "--data", png_folder, *few, "--dry-run", "--json")
    assert ran.code == 0 and ran.json["kinds"]["train"] == 44 and not (tmp_path / "grid").exists()
    narrow = ("--methods", "random,easycore", "--fractions", 0.5, "--attack", "fgsm", "--strong", "pgd:steps=2")
    assert cli(*line, "--data", png_folder, *few, *narrow, "--controls", "none").code == 0
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert {(row["method"], row["objective"]) for row in rows} == {
        (method, objective) for method in ("random", "easycore") for objective in ("standard", "trades")
    }


@WARNS
def test_steps_do_not_depend_on_where_the_data_lies(tmp_path):
    plans = [plan("cifar10-quick", data=write_cifar(tmp_path / place, copies=1)) for place in ("a", "b/c")]
    assert [c.name for c in plans[0].cells] == [c.name for c in plans[1].cells]


@pytest.mark.slow
def test_a_finished_recipe_is_extended_by_flags(tmp_path, cli, inline):
    """A small recipe of one's own: seeds, methods and radii are added; what replaces adds other cells."""
    out = tmp_path / "grid"
    shared = {
        "model": "digits-cnn",
        "controls": "none",
        "updates": 2,
        "eps": 0.1,
        "attack": "fgsm",
        "limit": 20,
        "main-eps": 0.1,
    }
    products = ({"methods": ["random", "easycore"]}, {"methods": "random", "fractions": [0.3]})
    mine = recipe(tmp_path, *products, data="digits", shared=shared | {"fractions": 0.2, "seeds": 2, "score.epochs": 1})
    line = ("compare", "--recipe", mine, "--out", out)
    assert cli(*line).code == 0
    before = stamps(out)
    ran = cli(*line, "--seeds", "+3-4", "--methods", "+tests.support.factories:first_rows")
    assert ran.code == 0, ran.err
    assert {name: stamps(out)[name] for name in before} == before and done(out, "train") == 6 + 6 + 4
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["seed"] for row in rows} == {0, 1, 3, 4}
    mine_rows = [row for row in rows if row["method"] == "tests.support.factories:first_rows"]
    assert {row["fraction"] for row in mine_rows} == {0.2}  # it joins the product that holds easycore
    for flags, kinds in (
        (("--eps", "+0.2"), {"evaluate": 6}),
        (("--eps", "0.2", "--main-eps", "0.2"), {"evaluate": 6}),
        (("--strong", "autoattack:iterations=2:queries=5@5"), {"evaluate": 6}),
        (("--vary", "lr=0.05,0.1"), {"score": 2, "select": 2, "train": 6, "evaluate": 6}),
        (("--fractions", "+0.4"), {"select": 4, "train": 4, "evaluate": 4}),  # random at 0.4 is in both
        (("--updates", "+4"), {"train": 6, "evaluate": 6}),
    ):
        ran = cli(*line, *flags, "--dry-run", "--json")
        assert ran.code == 0 and ran.json["kinds"] == kinds, (flags, ran.json)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("products: [{methdos: random}]", r"unknown key 'methdos'.*'methods'"),
        (
            "shared:\n  updates: 2\nproducts:\n- methods: random\n  fractoins: 0.5\n",
            r"line 5: .*'fractoins'.*'fractions'",
        ),
        ("product: []", r"line 1: unknown key 'product'.*'products'"),
        ("data: digits", "products.*list"),
        ("products: []", "products.*list"),
        ("data: digits\nproducts: [{methods: random, fractions: 2, updates: 1}]", r"fractions.*\b2"),
        ("data: digits\nproducts: [{methods: random, fractions: 0.5, updates: few}]", "updates.*'few'"),
        ("data: digits\nproducts: [{methods: random, fractions: 0.5}]", "epochs.*updates.*neither"),
        ("products: [{methods: random, fractions: 0.5, updates: 1}]", "data.*given"),
        ("data: digits\nproducts: [{methods: random, score.evry: 1, fractions: 0.5, updates: 1}]", "'evry'.*'every'"),
        ("a: *b", "not YAML"),
    ],
)
def test_bad_recipes(tmp_path, cli, text, match):
    (tmp_path / "bad.yaml").write_text(text)
    ran = cli("compare", "--recipe", tmp_path / "bad.yaml", "--out", tmp_path / "grid")
    assert ran.code == 2 and re.search(match, ran.err), ran.err
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--recipe", "digit"), "'digit'.*'digits'"),
        (("--recipe", "none.yaml"), r"none\.yaml.*readable"),
        (("--recipe", "digits", "--limit", "+3"), "extend.*limit"),
        (("--recipe", "digits", "--eps", "+x"), "extend eps.*'x'"),
        (("--recipe", "digits", "--primary", "easycore vs middle"), "'easycore vs middle'"),
    ],
)
def test_bad_flags_beside_a_recipe(tmp_path, cli, flags, match):
    ran = cli("compare", *flags, "--out", tmp_path / "grid")
    assert ran.code == 2 and re.search(match, ran.err), ran.err


def test_a_recipe_is_printed_to_start_from(tmp_path, cli):
    ran = cli("compare", "--show-recipe", "digits")
    assert ran.code == 0 and ran.out == recipe_text("digits")
    (tmp_path / "mine.yaml").write_text(ran.out)
    assert {c.name for c in plan(str(tmp_path / "mine.yaml")).cells} == {c.name for c in plan("digits").cells}
    listed = cli("compare", "--list").out
    assert all(name in listed for name in recipe_names())


@pytest.mark.slow
def test_dry_run_writes_nothing(tmp_path, cli):
    ran = cli("compare", *SMALL, "--dry-run", "--json", "--out", tmp_path / "grid")
    assert ran.code == 0 and not (tmp_path / "grid").exists()
    kinds = {"score": 2, "select": 4, "train": 6, "evaluate": 6}
    assert (ran.json["kinds"], ran.json["missing"], ran.json["updates"]) == (kinds, 18, 18) and ran.json["seconds"] > 0
    assert ran.json["disk_gb"] >= 0 and ran.json["again"] == 0


@pytest.mark.slow
def test_every_method_that_scoring_can_serve(tmp_path, cli, inline):
    methods = [f"{name}:beta=0.1" if name == "double-end" else name for name in SELECTORS]
    methods += ["craig:gradients=adversarial", "gradmatch:gradients=adversarial", "stratified:per_class=true"]
    common = ["--methods", ",".join(methods), "--fractions", "0.1", "--updates", "2", "--seeds", "1"]
    small = ["--score.epochs", "10", "--eps", "0.1", "--attack", "fgsm", "--limit", "20", "--controls", "full"]
    assert cli("compare", "--data", "digits", *common, *small, "--out", tmp_path / "grid").code == 0
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    assert [row["method"] for row in rows] == [*methods, "full"]
    own = {row["method"]: row for row in rows}
    assert {name for name, row in own.items() if row["weighted"]} == {m for m in methods if m[:5] in ("craig", "gradm")}
    assert all(
        row["selection_mb"] is not None and row["selection_seconds"] >= 0 for row in rows if row["method"] != "full"
    )
    assert done(tmp_path / "grid", "score") == 1
    measured = list((tmp_path / "grid").glob("steps/measure-*"))
    for name in ("features.npy", "features_adv.npy"):
        assert any((folder / name).exists() for folder in measured)
    names = {name for folder in measured for name in pq.read_schema(folder / "scores.parquet").names}
    assert {"curvature", "vog", "boundary"} <= names
    page = (tmp_path / "grid" / "report.html").read_text()
    assert "selection, MB" in page and "gradmatch:gradients=adversarial" in page


@pytest.mark.slow
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
        "standard,trades:steps=2,pgd-at:steps=2,mart:steps=2,fgsm-rs,noise",
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
    assert len(rows) == 6 * 2 * 3 and {row["objective"].split(":")[0] for row in rows} == set(OBJECTIVES)
    assert {row["attack"] for row in rows} == {"pgd:steps=5", "autoattack:iterations=3:queries=10", "worst"}


@WARNS
def test_beyond_the_ball_every_row_is_measured_on_the_same_images(cifar):
    for name, seeds, option, images in (
        ("cifar10-smoothing", 3, "certify", 500),
        ("cifar10-corruptions", 5, "corruptions", 1000),
    ):
        cells = plan(name, data=cifar, scores=None).cells
        assert len(cells) == seeds * (2 + 4) and {cell.updates for cell in cells} == {600, 1200, 2400}
        (measured,) = {(s.options[option], s.options["limit"]) for c in cells for s in c.beyond}
        assert measured[1] == images and all(len(c.beyond) == 1 for c in cells)
        assert yaml.safe_load(recipe_text(name))["products"][1]["scores"] == "published:cifar10"
