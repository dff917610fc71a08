"""Experiments: names of cells, a second run that does only what is missing, workers that die, cells that fail."""

import dataclasses
import json
import os
import shutil
import signal

import pyarrow.parquet as pq
import pytest

from easycoreset import UsageError
from easycoreset.errors import GridError
from easycoreset.experiment import Cell, Experiment, Product, run_experiment, scheduler, worker
from easycoreset.experiment.cells import parse_strong_attack
from easycoreset.experiment.tasks import RunSettings, Task
from easycoreset.recipes import digits as digits_recipe

BASE = Cell(data="digits", model="digits-cnn", scoring_epochs=2, attack=("pgd:steps=2", "fgsm"), eps=(0.1,), limit=60)


def experiment(methods=("easycore", "random"), seeds=1, **changes):
    product = Product(
        base=dataclasses.replace(BASE, **changes), methods=methods, fractions=(0.3,), updates=(10,), seeds=seeds
    )
    return Experiment(name="tiny", products=(product,))


def die_once(scores, count, seed):
    """A selector whose process is killed the first time it is called."""
    from tests.support.factories import first_rows

    marker = os.environ["DIE_ONCE"]
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return first_rows(scores, count, seed)


def die_always(scores, count, seed):
    """A selector whose process is always killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_cells_are_named_by_what_is_off_its_default():
    cell = Cell(data="digits")
    assert len(cell.name) == 16 and cell.name == Cell(data="digits", method="random", seed=0).name
    names = {
        dataclasses.replace(cell, **change).name
        for change in (
            {},
            {"seed": 1},
            {"method": "easycore"},
            {"eps": (0.1,)},
            {"objective": "trades"},
            {"updates": 3},
        )
    }
    assert len(names) == 6
    assert (
        cell.scoring_name == dataclasses.replace(cell, method="easycore", fraction=0.1, objective="trades").scoring_name
    )
    assert cell.scoring_name != dataclasses.replace(cell, seed=1).scoring_name


def test_the_members_version_is_in_the_name(monkeypatch):
    from easycoreset.attacks.pgd import PGD

    before = Cell(data="digits").name
    monkeypatch.setattr(PGD, "version", 2)
    assert Cell(data="digits").name != before


def test_the_demo_is_what_it_says():
    cells = digits_recipe().cells()
    assert len(cells) == len({cell.name for cell in cells}) == 3 * (5 * 2 + 1 + 2 + 1)
    assert len({cell.scoring_name for cell in cells}) == 3 and all(cell.updates <= 200 for cell in cells)


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing(tmp_path):
    first = run_experiment(experiment(seeds=2), tmp_path, workers=2, keep_weights=True)
    assert first.num_rows == 2 * 2 * 3  # methods x seeds x (two attacks and the worst of both)
    cells = sorted((tmp_path / "cells").iterdir())
    stamps = {cell: (cell / "cell.json").stat().st_mtime_ns for cell in cells}
    for name in ("coreset.parquet", "model/model.safetensors", "predictions.parquet"):
        assert all((cell / name).exists() for cell in cells)
    shutil.rmtree(cells[1])
    second = run_experiment(experiment(seeds=2), tmp_path, workers=1)
    assert [cell for cell in cells if (cell / "cell.json").stat().st_mtime_ns != stamps[cell]] == [cells[1]]
    assert not (cells[1] / "model").exists() and not (cells[1] / "coreset.parquet").exists()  # without keep_weights
    same = [name for name in first.column_names if name not in ("seconds", "selection_seconds", "selection_mb")]
    assert first.select(same).equals(second.select(same))
    assert pq.read_table(tmp_path / "results.parquet").select(same).equals(second.select(same))
    with pytest.raises(UsageError, match="made with"):
        run_experiment(dataclasses.replace(experiment(), name="other"), tmp_path, workers=1)


@pytest.mark.slow
def test_a_failed_cell_stops_no_other_and_is_tried_again(tmp_path):
    bad = experiment(methods=("random", "easiest:nothing"))
    for _ in range(2):
        with pytest.raises(GridError, match=r"1 of 2 cells\b.*easiest:nothing\b.*\b0\.3, standard\b.*\b0: .*'nothing'"):
            run_experiment(bad, tmp_path, workers=1)
        assert len(list((tmp_path / "cells").glob("*/cell.json"))) == 1
        assert set(pq.read_table(tmp_path / "results.parquet")["method"].to_pylist()) == {"random"}


@pytest.mark.slow
def test_a_worker_that_dies_is_retried(tmp_path, monkeypatch):
    monkeypatch.setenv("DIE_ONCE", str(tmp_path / "marker"))
    results = run_experiment(
        experiment(methods=("random", "tests.experiment.test_experiment:die_once")), tmp_path / "run", workers=2
    )
    assert set(results["method"].to_pylist()) == {"random", "tests.experiment.test_experiment:die_once"}
    with pytest.raises(GridError, match=r"1 of 4 cells\b.*\bworker\b"):
        methods = ("random", "tests.experiment.test_experiment:die_always", "easycore", "hardest")
        run_experiment(experiment(methods=methods), tmp_path / "dead", workers=2)
    assert len(list((tmp_path / "dead" / "cells").glob("*/cell.json"))) == 3  # the others are done


def test_a_method_whose_scores_are_never_made_fails_instead_of_waiting(tmp_path):
    base = Cell(data="digits", model="digits-cnn", scoring_epochs=1, attack=("fgsm",), eps=(0.1,), limit=20)
    product = Product(base=base, methods=("easiest:by=mystery", "easycore"), fractions=(0.2,), updates=(2,), seeds=1)
    with pytest.raises(GridError, match=r"1 of 2 cells\b.*column 'mystery'"):
        run_experiment(Experiment(name="lacking", products=(product,)), tmp_path, workers=1)
    assert pq.read_table(tmp_path / "results.parquet")["method"].to_pylist() == ["easycore"]


def test_an_interrupted_strong_attack_loses_nothing(tmp_path, monkeypatch):
    """What the table's attacks found stays, whenever the strong one is cut off."""
    (cell,) = experiment(methods=("random",), strong=("pgd:steps=3@20",)).cells()
    evaluate = worker.evaluate
    calls = []

    def cut_off(**options):
        calls.append(options["attack"])
        if options["attack"] == ("pgd:steps=3",) and len(calls) == 2:
            raise KeyboardInterrupt
        done = (options["out"] / "evaluation.json").exists()
        found = evaluate(**options)
        calls[-1] = (*options["attack"], done)
        return found

    monkeypatch.setattr(worker, "evaluate", cut_off)
    task = Task("cell", cell)
    setting = RunSettings(tmp_path, "cpu")
    with pytest.raises(KeyboardInterrupt):
        worker.run_task(task, setting)
    assert worker.run_task(task, setting).status == "done"
    assert calls == [
        ("pgd:steps=2", "fgsm", False),
        ("pgd:steps=3",),
        ("pgd:steps=2", "fgsm", True),
        ("pgd:steps=3", False),
    ]
    record = json.loads((tmp_path / "cells" / cell.name / "cell.json").read_text())
    assert [line["attack"] for line in record["strong"]] == ["pgd:steps=3"] and record["strong"][0]["samples"] == 20
    outcomes = pq.read_table(tmp_path / "cells" / cell.name / "predictions-strong.parquet")
    assert outcomes["attack"].unique().to_pylist() == ["pgd:steps=3"] and outcomes.num_rows == 20
    assert 1 - sum(outcomes["broken"].to_pylist()) / 20 == pytest.approx(record["strong"][0]["accuracy"])


@pytest.mark.parametrize("spec", ["apgd@0", "apgd@x", "apgd@-3", "apgd@"])
def test_strong_attacks_are_spelled_with_their_images(spec):
    with pytest.raises(UsageError, match=f"^strong.*ATTACK@IMAGES.*'{spec}'"):
        parse_strong_attack(spec)


def test_strong_attacks_and_their_versions_name_a_cell(monkeypatch):
    from easycoreset.attacks.apgd import APGD

    names = {Cell(data="digits", strong=strong).name for strong in ((), ("apgd@10",), ("apgd@20",), ("apgd",))}
    monkeypatch.setattr(APGD, "version", 2)
    assert len(names) == 4 and Cell(data="digits", strong=("apgd",)).name not in names
    first, second = (experiment(seeds=2).products[0].cells(seed) for seed in (0, 1))
    product = dataclasses.replace(experiment(seeds=2).products[0], first_seed=("apgd@10",))
    assert product.cells(1) == second and {cell.strong for cell in product.cells(0)} == {("apgd@10",)} != first


def test_workers_are_told_of_the_machine(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(scheduler, "open_pool", lambda *given: seen.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_experiment(experiment(), tmp_path, workers=3, device="cpu", keep_weights=True, num_workers=7, on="ray")
    assert seen == [("ray", 3, RunSettings(tmp_path, "cpu", True, 7))]
