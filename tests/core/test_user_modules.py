"""A user's own modules: allowed alike for every kind of member, and told apart by all of their code."""

import sys

import numpy as np
import pytest

from easycoreset import user_modules
from easycoreset.data import open_source
from easycoreset.errors import UsageError
from easycoreset.user_modules import code_digest, is_user_spec

SMALL = (
    "--fractions",
    0.1,
    "--updates",
    2,
    "--seeds",
    1,
    "--score.epochs",
    1,
    "--attack",
    "fgsm",
    "--eps",
    0.1,
    "--limit",
    20,
    "--workers",
    1,
)
MODULE = """
import numpy as np
import torch
from torch import nn
from dataclasses import dataclass
from easycoreset.tables import Coreset

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (40, 8, 8), np.uint8), np.arange(40) % 4

class Pairs:
    def __len__(self):
        return 40
    def __getitem__(self, row):
        return torch.full((1, 8, 8), row / 40), row % 4

def pairs():
    return {"training": Pairs(), "val": Pairs()}

def parts():
    x, y = arrays()
    return (x, y), (x[:8], y[:8])

def nothing():
    return 7

def first(scores, count, seed):
    return Coreset.from_order(np.arange(count), scores)

@dataclass(frozen=True, kw_only=True)
class Still:
    eps: float = 0.1
    norm: str = "linf"
    seed: int = 0
    def __call__(self, model, x, y, index=None):
        return x

@dataclass(frozen=True, kw_only=True)
class Plain:
    eps: float = 0.1
    def __call__(self, model, x, y, generator):
        return nn.functional.cross_entropy(model(x), y, reduction="none")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a module of a name that no other test has."""
    name = f"mine_{tmp_path.name.replace('-', '_').replace('[', '_').replace(']', '')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_what_is_an_own_module(here):
    for spec in (f"{here}:make", f"{here}:Still:eps=0.1", "a.b:c", "a.b:c:steps=3"):
        assert is_user_spec(spec)
    for spec in (
        "pgd:steps=3",
        "easiest:loss",
        "timm:resnet18",
        "hf:owner/name",
        "cifar10:data",
        "file:a.txt",
        "random",
        "json:loads",
        "numpy:array",
    ):
        assert not is_user_spec(spec)


@pytest.mark.slow
def test_every_kind_of_member_in_the_working_folder(here, tmp_path, cli):
    small = [f"{here}:Still" if value == "fgsm" else value for value in SMALL]
    ran = cli(
        "compare",
        "--data",
        "digits",
        "--model",
        f"{here}:make",
        "--methods",
        f"random,{here}:first",
        "--objectives",
        f"standard,{here}:Plain",
        *small,
        "--json",
        "--out",
        tmp_path / "grid",
    )
    assert ran.code == 0, ran.err
    assert {row["method"] for row in ran.json["results"]} == {
        "random",
        f"{here}:first",
        "full",
        "random:per_class=true",
    }


@pytest.mark.parametrize("load", ["arrays", "pairs", "parts"])
def test_a_data_set_of_ones_own(here, tmp_path, cli, load):
    source = open_source(f"{here}:{load}")
    assert source.shape == (1, 8, 8) and list(source.class_names) == list("0123")
    assert [len(s) for s in source.splits.values()] == {"arrays": [32, 8], "pairs": [40, 40], "parts": [40, 8]}[load]
    assert source.splits["train"].fingerprint == open_source(f"{here}:{load}").splits["train"].fingerprint
    ran = cli("score", "--data", f"{here}:{load}", "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "s")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(("name", "match"), [("nothing", ":nothing'"), ("gone", ":gone'")])
def test_what_is_no_data_set(here, name, match):
    with pytest.raises(UsageError, match=match):
        open_source(f"{here}:{name}")


@pytest.mark.slow
def test_analyze_takes_what_compare_takes(here, tmp_path, cli):
    ran = cli(
        "analyze",
        "--data",
        "digits",
        "--model",
        f"{here}:make",
        "--adversarial",
        "none",
        "--epochs",
        1,
        "--limit",
        10,
        "--margins",
        5,
        "--bins",
        2,
        "--eps",
        0.1,
        "--out",
        tmp_path / "a",
    )
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    "imported",
    [
        "import my{n}.helper",
        "from my{n} import helper",
        "from . import helper",
        "from .helper import WIDTH",
        "import other{n}",
    ],
)
def test_the_digest_covers_every_module_that_is_imported(tmp_path, monkeypatch, imported):
    number = abs(hash(str(tmp_path))) % 10**9
    package = tmp_path / f"my{number}"
    other = tmp_path / f"other{number}.py"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(f"import numpy\n{imported.format(n=number)}\ndef make(): ...\n")
    (package / "helper.py").write_text("from . import deeper\nWIDTH = 1\n")
    (package / "deeper.py").write_text("DEPTH = 1\n")
    (package / "apart.py").write_text("A = 1\n")
    other.write_text("B = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = [f"my{number}.model:make"]
    before = code_digest(spec)
    (package / "apart.py").write_text("A = 2\n")
    assert code_digest(spec) == before != ""
    changed = [other] if "other" in imported else [package / "helper.py", package / "deeper.py"]
    for file in changed:
        file.write_text(file.read_text() + "C = 3\n")
        assert code_digest(spec) != before
        before = code_digest(spec)


def test_packages_that_are_installed_inside_of_the_project_are_not_its_code(tmp_path, monkeypatch):
    number = abs(hash(str(tmp_path))) % 10**9
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    (installed / f"large{number}").mkdir(parents=True)
    (installed / f"large{number}" / "__init__.py").write_text(f"import large{number}.windows\n")
    (installed / f"large{number}" / "windows.py").write_text("assert False\n")
    (tmp_path / f"broken{number}.py").write_text("raise RuntimeError\n")
    mine = tmp_path / f"mine{number}.py"
    mine.write_text(f"import easycoreset.tables\nimport large{number}\nimport broken{number}.part\ndef make(): ...\n")
    for folder in (installed, tmp_path):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("site.getsitepackages", lambda: [str(installed)])
    user_modules._package_folders.cache_clear()
    try:
        before = code_digest([f"mine{number}:make"])
        (installed / f"large{number}" / "__init__.py").write_text("A = 2\n")
        assert code_digest([f"mine{number}:make"]) == before
        (tmp_path / f"broken{number}.py").write_text("raise ValueError\n")
        assert code_digest([f"mine{number}:make"]) != before
    finally:
        user_modules._package_folders.cache_clear()


@pytest.mark.slow
def test_a_changed_helper_makes_cells_anew(tmp_path, monkeypatch, cli):
    number = abs(hash(str(tmp_path))) % 10**9
    package = tmp_path / f"pack{number}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("ORDER = 1\n")
    (package / "withhelp.py").write_text(
        "import numpy as np\nfrom easycoreset.tables import Coreset\n"
        f"from pack{number} import helper\n"
        "def first(scores, count, seed):\n    return Coreset.from_order(np.arange(count)[:: helper.ORDER], scores)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    given = (
        "compare",
        "--data",
        "digits",
        "--methods",
        f"random,pack{number}.withhelp:first",
        *SMALL,
        "--out",
        tmp_path / "g",
    )
    assert cli(*given).code == 0
    assert "0 of 12 steps" in cli(*given, "--dry-run").out
    (package / "helper.py").write_text("ORDER = -1\n")
    assert "3 of 12 steps" in cli(*given, "--dry-run").out


def test_no_module_of_a_received_folder_is_imported(here, tmp_path):
    from easycoreset.data_specs import is_local

    assert not is_local(f"{here}:arrays") and here not in sys.modules


def test_labels_of_an_own_data_set_may_be_names(here, tmp_path):
    (tmp_path / f"{here}.py").write_text(
        "import numpy as np\ndef named():\n    x = np.zeros((6, 8, 8), np.uint8)\n    return x, np.array(list('ababab'))\n"
    )
    assert list(open_source(f"{here}:named").class_names) == ["a", "b"]
    assert np.all(open_source(f"{here}:named").splits["train"].images.pixels.numpy() == 0)
