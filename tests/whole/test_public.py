"""The public names are the documented ones, and every member is documented."""

import ast
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import easycoreset
from easycoreset import attacks, hardness, objectives, selection
from easycoreset.members import describe_members
from easycoreset.options import OPTIONS, field_names


def test_public_names_are_documented():
    assert sorted(easycoreset.__all__) == sorted(easycoreset._MODULES)
    for name in easycoreset.__all__:
        assert getattr(easycoreset, name).__doc__
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = easycoreset.nothing


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("method", selection.SELECTORS),
        ("attack", attacks.ATTACKS),
        ("objective", objectives.OBJECTIVES),
        ("hardness", hardness.HARDNESS),
    ],
)
def test_every_member_says_what_it_is(kind, table):
    for record in describe_members(kind, table):
        assert record["is"][-1] == ".", record
        assert kind != "method" or (record["needs"] and record["cost"]), record


def test_signatures_are_the_options():
    import inspect

    parameters = inspect.signature(easycoreset.train).parameters
    assert {"data", "epochs", "updates", "out"} <= set(parameters) and "options" not in parameters
    with pytest.raises(TypeError, match=r"train\(\).*'epoch'.*'epochs'"):
        easycoreset.train(data="digits", epoch=3, out="x")
    assert "batch_size: Samples" in easycoreset.train.__doc__
    assert "Annotated" not in str(inspect.signature(easycoreset.train))


@pytest.mark.parametrize("command", [*OPTIONS])
def test_every_command_takes_its_options_in_python(command):
    import inspect

    parameters = inspect.signature(getattr(easycoreset, command)).parameters
    assert tuple(sorted(parameters)) == tuple(sorted(field_names(OPTIONS[command])))


def _statements(node, docstrings):
    return sum(isinstance(n, ast.stmt) and n not in docstrings for n in ast.walk(node))


def test_the_house_stays_small():
    for module in pkgutil.walk_packages(easycoreset.__path__, "easycoreset."):
        if module.name == "easycoreset.__main__":
            continue
        source = Path(importlib.util.find_spec(module.name).origin).read_text()  # adapters need libraries that may lack
        tree = ast.parse(source)
        docstrings = {n for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
        assert "fmt: " not in source, module.name
        assert _statements(tree, docstrings) <= 210, module.name
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert _statements(node, docstrings) <= 45, f"{module.name}: {node.name}"
