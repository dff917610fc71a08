"""The benchmarks' own arithmetic, and the check of committed results: a changed figure is found."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from benchmarks import __main__ as runner
from benchmarks import carry, check, first_minutes, growth, hour, pieces, timing
from benchmarks.children import spend
from benchmarks.figures import beside
from benchmarks.grids import cheapest, compare_cell, plan_again, rows_of
from benchmarks.scatter import scatter

from easycoreset.cli import main
from easycoreset.plan_folders import read_plan
from support.messages import named
from support.sources import write_cifar

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(file.parent.name for file in (ROOT / "results").glob("*/plan.json"))
COMMITTED = [name for name in COMMITTED if (ROOT / "results" / name / "results.parquet").exists()]
DIGITS = [
    "--data",
    "digits",
    "--model",
    "digits-cnn",
    "--methods",
    "random,easycore",
    "--fractions",
    "0.1",
    "--updates",
    "40",
    "--seeds",
    "1",
    "--vary",
    "score.epochs=1",
    "--vary",
    "lr=0.1",
    "--attack",
    "pgd:steps=2",
    "--eps",
    "0.1,0.05",
    "--strong",
    "pgd:steps=3@50",
    "--workers",
    "1",
    "--quiet",
]
VOLATILE = ["seconds", "selection_seconds", "selection_mb"]
APART = {"agreement", "attacks", "coverage", "noise", "selectors"}  # commands of their own, which write results
LINE = {
    "attack": "pgd",
    "eps": 0.1,
    "accuracy": 0.5,
    "low": 0.45,
    "high": 0.55,
    "samples": 400,
    "clean": 0.9,
    "kept": 144,
}


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def work(*seconds):
        left = iter(seconds)
        return lambda: now.__setitem__(0, now[0] + next(left))

    return work


def test_every_registered_benchmark_is_a_file_that_runs_and_every_file_is_registered():
    found = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "\ndef run(" in file.read_text()}
    assert found == {*runner.NAMES, *runner.LONG}
    assert not APART & found and not set(runner.NAMES) & set(runner.LONG)
    assert list(runner.NAMES) == sorted(runner.NAMES) and list(runner.LONG) == sorted(runner.LONG)
    for name in found:
        assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_the_runner_refuses_unknown_names_and_counts_what_is_above(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="'nothing'.*growth"):
        runner.main()
    rows = [{"what": "a", "budget": 1.0, "measured": 1.0}, {"what": "b", "budget": 1.0, "measured": 1.01}]
    monkeypatch.setattr("benchmarks.exact.run", lambda: rows)
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "exact"])
    runner.main()
    said = capsys.readouterr().out.splitlines()
    assert "within 1" in said[0] and "ABOVE 1" in said[1] and named(said[2], "; 1 ", "budget")
    record = json.loads((tmp_path / "exact.json").read_text())
    assert [row["holds"] for row in record["rows"]] == [True, False] and record[
        "command"
    ] == "python -m benchmarks exact"


def test_a_ratio_is_the_median_of_ours_over_the_reference(clock):
    """Five pairs behind a warm start that does not count: 2/4, 3/4, 4/4, 5/4, 8/4."""
    ours = clock(100, 2, 3, 4, 5, 8)
    reference = clock(100, 4, 4, 4, 4, 4)
    row = timing.ratio("ours / theirs", 1.1, ours, reference, repeats=5, warm=1)
    assert row == {
        "what": "ours / theirs",
        "budget": 1.1,
        "measured": 1.0,
        "low": 0.625,
        "high": 1.625,
        "repeats": 5,
        "seconds": 4.0,
    }


def test_a_ratio_pairs_neighbours_and_takes_turns(clock):
    """A machine that becomes slower and slower moves no ratio; who is first changes."""
    order = []
    ours = clock(1, 10, 100, 1000)
    reference = clock(2, 20, 200, 2000)
    row = timing.ratio(
        "", 1, lambda: [ours(), order.append("o")], lambda: [reference(), order.append("r")], repeats=4, warm=0
    )
    assert row["measured"] == row["low"] == row["high"] == 0.5
    assert "".join(order) == "roorroor"


def test_what_a_process_costs_is_its_own():
    """100 MB that it fills are seen, 300 MB of this one are not; a failure is an error that says why."""
    here = bytearray(b"1" * 300_000_000)
    small, large = (spend([sys.executable, "-c", f"x = b'1' * {size}; print(len(x))"]) for size in (1, 10**8))
    assert len(here) and small.out == "1\n" and small.seconds > 0
    assert small.mb < 60 and large.mb - small.mb == pytest.approx(100, abs=10)
    with pytest.raises(RuntimeError, match=r"exit 3\b.*no such thing"):
        spend([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_growth_measures_a_pass_over_files(tmp_path):
    growth.write_images(tmp_path, 1001, 16)
    files = sorted(tmp_path.glob("*/*.jpg"))
    assert len(files) == 1001 and files[-1].name == "0001000.jpg"
    assert len({file.read_bytes() for file in files}) == growth.DISTINCT
    shutil.rmtree(tmp_path / "0000")
    growth.write_images(tmp_path / "few", 6, 16)
    assert {key: growth.pass_over(tmp_path / "few", 16)[key] for key in ("rows", "pixels")} == {"rows": 6, "pixels": 16}


def test_growth_puts_new_sizes_among_the_old_and_says_whether_it_is_linear(tmp_path):
    def record(rows, each, pixels=32):
        return {"rows": rows, "pixels": pixels, "seconds": rows * each / 1000, "seconds_per_1000_rows": each}

    records = growth.merge([record(10, 9), record(1000, 2)], [record(10, 1), record(100, 1), record(10, 3, 64)])
    assert [(r["pixels"], r["rows"]) for r in records] == [(32, 10), (32, 100), (32, 1000), (64, 10)]
    (row,) = growth.linear(records)
    assert row["measured"] == 2.0 and row["measured"] > row["budget"]
    growth.draw(records, tmp_path / "growth.svg")
    drawn = ElementTree.parse(tmp_path / "growth.svg").getroot()
    assert len(drawn.findall("{*}polyline")) == 2 and len(drawn.findall("{*}circle")) == 4 + 2


def test_a_scatter_lies_within_its_frame():
    drawn = ElementTree.fromstring(scatter("a < b", "x", "y", {"s": [(1, 0.01), (10, 0.1), (100, 1)]}))
    places = [tuple(map(float, pair.split(","))) for pair in drawn.find("{*}polyline").get("points").split()]
    assert places == [(70.0, 360.0), (330.0, 200.0), (590.0, 40.0)]  # proportional: a straight line, corner to corner
    assert {"0.01", "0.10", "1", "100"} - {element.text for element in drawn.findall("{*}text")} == {"0.10"}


def test_figures_are_compared_by_name_word_and_tolerance():
    old = {"date": "then", "rows": [{"name": "a", "value": 0.5, "count": 100}]}
    same = beside(old, {"date": "now", "rows": [{"name": "a", "value": 0.5, "count": 100}]})
    assert same.holds and "all 3 " in same.said
    near = {"rows": [{"name": "a", "value": 0.51, "count": 104}]}
    assert beside(old, near, absolute=0.02, relative=0.05).holds
    assert not beside(old, near).holds and named(beside(old, near).said, "rows.0.value ", "0.51", "0.5")
    assert not beside(old, near, absolute=0.02).holds  # 104 of 100
    assert not beside(old, {"rows": [{"name": "b", "value": 0.5, "count": 100}]}, relative=1).holds
    assert "rows.0." in beside(old, {"rows": []}).said


def test_a_cell_is_the_same_within_its_interval_or_does_not_hold():
    assert named(compare_cell([LINE], [dict(LINE)]).said, "same", "1 ")
    within = compare_cell([LINE], [LINE | {"accuracy": 0.54}])
    assert within.holds and named(within.said, "intervals", "0 of 1 ")
    assert not compare_cell([LINE], [LINE | {"accuracy": 0.56}]).holds
    assert named(compare_cell([LINE], [LINE | {"kept": 143}]).said, "kept ", "143", "144")
    assert not compare_cell([LINE, LINE], [LINE]).holds


def test_the_cheapest_cell_needs_no_scores_and_no_adversarial_training():
    facts = {
        "a": (5.0, "standard", {"train": "a"}),
        "b": (2.0, "trades:steps=5", {"select": "s", "train": "b"}),
        "c": (1.0, "standard", {"score": "s", "select": "s", "train": "c"}),
        "d": (4.0, "standard", {"select": "s", "train": "d"}),
        "e": (0.1, "standard", {"train": "e"}),
    }
    cells = [{"name": name, "objective": objective, "steps": steps} for name, (_, objective, steps) in facts.items()]
    table = pa.table({"cell": [*"abcd"] * 2, "seconds": [facts[name][0] for name in "abcd"] * 2})  # e is not finished
    assert cheapest(table, cells) == "d"
    assert cheapest(table.filter(pc.is_in(table["cell"], pa.array(["b", "c"]))), cells) == "b"


@pytest.mark.parametrize("name", COMMITTED)
def test_every_committed_comparison_has_a_cheapest_cell(name):
    """It needs no scores, is of standard training if any is, and every finished cell is in the plan."""
    table = pq.read_table(ROOT / "results" / name / "results.parquet")
    cells = {cell["name"]: cell for cell in read_plan(ROOT / "results" / name)["cells"]}
    seconds = {row["cell"]: row["seconds"] for row in table.to_pylist()}
    assert set(seconds) <= set(cells)
    free = [key for key in seconds if "score" not in cells[key]["steps"]]
    free = [key for key in free if cells[key]["objective"] == "standard"] or free
    assert seconds[cheapest(table, list(cells.values()))] == min(seconds[key] for key in free)


def test_the_check_finds_a_changed_figure(tmp_path, monkeypatch, capsys):
    """A tiny result beside the same with one figure changed, one without data, one that nothing does again."""
    record = {"rows": [{"rows": 10, "pixels": 32, "seconds": 1.0, "peak_mb": 100.0}]}
    (tmp_path / "growth-cpu.json").write_text(json.dumps(record))
    (tmp_path / "noise-cifar10.json").write_text("{}")
    (tmp_path / "strange.json").write_text("{}")
    (tmp_path / "README.md").write_text("")
    monkeypatch.delenv("EASYCORESET_DATA", raising=False)
    monkeypatch.setattr(growth, "measure", lambda rows, pixels: record["rows"][0] | {"seconds": 2.0})
    assert check.main([], tmp_path) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said] == ["holds", "skipped", "skipped"]
    assert "python -m benchmarks.check noise-cifar10.json" in said[1] and "strange.json" in said[2]
    (tmp_path / "growth-cpu.json").write_text(json.dumps(record).replace("1.0", "0.1"))
    assert check.main([], tmp_path) == 1 and "DOES NOT HOLD" in capsys.readouterr().out
    (tmp_path / "growth-cpu.json").write_text("{")
    assert check.main(["growth-cpu.json"], tmp_path) == 1 and "JSONDecodeError" in capsys.readouterr().out
    assert check.main(["noise-cifar10.json"], tmp_path) == 0 and "EASYCORESET_DATA" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"'other'.*growth-cpu\.json"):
        check.main(["other"], tmp_path)


def test_committed_results_are_small_and_name_no_place_of_a_machine():
    for file in (path for path in (ROOT / "results").rglob("*") if path.is_file()):
        assert file.stat().st_size < 2**20, file
        if file.suffix in (".json", ".jsonl"):
            assert re.search(r'[":](/[\w.-]+){2,}', file.read_text()) is None, file


def test_every_committed_result_has_its_check():
    """Of those of a CPU; a folder of images that no file here makes is known to be one that nothing does again."""
    unchecked = {
        "run-cifar10-folder.json",
        "analysis-cifar10",
        "attacks-cifar10.json",
        "published-agreement-cifar10.json",
        "autoattack-cifar10.json",
        "margins-cifar10",
        "cifar10-quick",
        "cifar100-quick",
        "cifar10-objectives",
        "digits-methods",
    }  # whose parts are no cheaper than an hour, or pages and tables of version 0.1
    found = {path.name for path in (ROOT / "results").iterdir() if path.is_dir() or path.suffix == ".json"}
    assert {name for name in found if "gpu" not in name} - unchecked <= {*check.CHECKS, *check.WHOLE}


@pytest.mark.slow
def test_a_real_cell_is_done_again_and_a_changed_figure_of_it_is_found(tmp_path):
    """The recorded accuracies and their intervals are moved up by a fifth: what is found is what was there before."""
    folder = tmp_path / "cifar10-main"
    assert main(["compare", *DIGITS, "--out", str(folder)]) == 0
    shutil.rmtree(folder / "locks")
    table = pq.read_table(folder / "results.parquet")
    cells = {cell["name"]: cell for cell in read_plan(folder)["cells"]}
    name = cheapest(table, list(cells.values()))
    first = rows_of(table, name)[0]
    assert cells[name]["method"] != "easycore" and len(rows_of(table, name)) == 2  # without the strong attack
    verdict = check.check(folder, None, False)
    assert verdict.holds and named(verdict.said, cells[name]["method"], "seed", "2 ")
    for column in ("accuracy", "low", "high"):
        table = table.set_column(table.column_names.index(column), column, pc.add(table[column], pa.scalar(0.2)))
    pq.write_table(table, folder / "results.parquet")
    verdict = check.check(folder, None, False)
    assert verdict.holds is False
    found = re.search(r"eps 0\.1: ([0-9.]+) .*? ([0-9.]+) ", verdict.said)
    assert found is not None and float(found[2]) == pytest.approx(first["accuracy"] + 0.2, abs=1e-4)
    assert float(found[1]) == pytest.approx(first["accuracy"], abs=0.05)  # another processor rounds otherwise
    record = json.loads((folder / "plan.json").read_text())
    for start in record["starts"]:
        start["products"][0]["vary"]["lr"] = [0.5]
    (folder / "plan.json").write_text(json.dumps(record))
    verdict = check.check(folder, None, False)
    assert verdict.holds is False and named(verdict.said, "named otherwise")


@pytest.mark.slow
def test_a_carried_plan_goes_on(tmp_path):
    """Its cells stay done; a method that reads scores scores again, whose files were not carried."""
    plan, carried, gone_on = tmp_path / "plan", tmp_path / "carried", tmp_path / "plans" / "on"
    assert main(["compare", *DIGITS, "--out", str(plan)]) == 0
    table = pq.read_table(plan / "results.parquet")
    count = carry.pack(plan, carried)
    names = {path.name for path in carried.rglob("*") if path.is_file()}
    assert not names & {"model.safetensors", "coreset.parquet", "scores.parquet"}
    assert carry.unpack(carried, gone_on) == count == len(list((plan / "steps").iterdir()))
    before = list_records(gone_on)
    again = [*DIGITS, "--out", str(gone_on)]
    assert main(["compare", *again]) == 0 and list_records(gone_on) == before
    assert pq.read_table(gone_on / "results.parquet").equals(table)
    more = [value.replace("random,easycore", "random,easycore,easiest:loss") for value in again]
    assert main(["compare", *more]) == 0
    changed = {name.partition("-")[0] for name, _ in list_records(gone_on) - before}
    assert changed == {"score", "select", "train", "evaluate"}
    cells = pa.array(table["cell"].unique())
    extended = pq.read_table(gone_on / "results.parquet")
    assert len(extended) > len(table) and extended.filter(pc.is_in(extended["cell"], cells)).equals(table)
    assert main(["compare", *again, "--overwrite"]) == 0  # what was unpacked is listed as the plan's own


@pytest.mark.slow
def test_a_grid_in_pieces_on_bare_machines(tmp_path):
    """Two calls, the first of which does half; the machine of the second is bare, but for what travels."""
    travels, finished, flags = tmp_path / "travels", tmp_path / "finished", [f for f in DIGITS if f != "--quiet"]
    data = flags[flags.index("--data") + 1]
    flags = [f for f in flags if f not in ("--data", data)]
    steps = []
    for number, part in enumerate((["--shard", "1/2"], [])):
        pieces.gather(travels, finished, None, 1)
        line = [ROOT / "benchmarks" / "piece.sh", travels, tmp_path / f"out{number}", 5, data, *flags, *part]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        bare = os.environ | {"PATH": path, "PIECES_HOME": str(tmp_path / f"home{number}"), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run([*map(str, line)], env=bare, cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        steps.append(pieces.take(tmp_path / f"out{number}" / pieces.PACKED, finished))
    assert min(steps) > 0
    assert main(["compare", *DIGITS, "--out", str(tmp_path / "plan")]) == 0
    tables = [pq.read_table(folder / "results.parquet").drop(VOLATILE) for folder in (tmp_path / "plan", finished)]
    assert tables[0].equals(tables[1])
    with tarfile.open(tmp_path / "out1" / pieces.PACKED) as archive:
        assert max(member.size for member in archive.getmembers()) < 2**18


def list_records(plan):
    """The steps' records with their times."""
    return {(path.parent.name, path.stat().st_mtime_ns) for path in plan.glob("steps/*/step.json")}


def test_a_comparison_is_not_done_again_without_results_or_data(tmp_path):
    folder = tmp_path / "cifar10-main"
    assert main(["compare", *DIGITS, "--preregister", "--out", str(folder)]) == 0
    verdict = check.check(folder, None, False)
    assert verdict.holds is None and named(verdict.said, "preregistered")
    plan = json.loads((folder / "plan.json").read_text())
    pq.write_table(pa.table({"cell": [plan["cells"][0]["name"]]}), folder / "results.parquet")
    plan["starts"][0]["products"][0]["data"] = ["cifar10:runs/data"]
    (folder / "plan.json").write_text(json.dumps(plan))
    verdict = check.check(folder, None, False)
    assert verdict.holds is None and named(verdict.said, "EASYCORESET_DATA", "cifar10")


@pytest.mark.real_data
def test_a_comparison_of_files_is_planned_again_wherever_they_lie(tmp_path, data_root):
    """The cells have the same names, whatever the folder of the data set was when they were recorded."""
    arguments = [f"cifar10:{data_root}" if value == "digits" else value for value in DIGITS]
    arguments = ["thin-resnet" if value == "digits-cnn" else value for value in arguments]
    assert main(["compare", *arguments, "--preregister", "--out", str(tmp_path / "grid")]) == 0
    plan = read_plan(tmp_path / "grid")
    product = plan["starts"][0]["products"][0]
    assert product["data"] == [f"cifar10:{data_root}"]
    again = plan_again([product | {"data": ["cifar10:elsewhere"]}], data_root)
    assert [cell.name for cell in again] == [cell["name"] for cell in plan["cells"]]


@pytest.mark.slow
def test_the_first_minutes_are_tried_without_a_gpu(tmp_path):
    """Every part runs and holds on the CPU, and the rates are those that the estimate of an hour reads."""
    line = [sys.executable, "-m", "benchmarks", "first_minutes", "--tiny", "--out", tmp_path / "found.json"]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(found[part].get("holds", True) and "left_out" not in found[part] for part in first_minutes.PARTS)
    assert set(found[first_minutes.RATES]) <= set(hour.ASSUMED) and found["tiny"]
    assert found["kill and resume"]["apart"] == 0 and found["kill and resume"]["killed_while_running"]
    assert found["rightness"]["aign folded"]["spearman"] == 1


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_the_hour_is_counted_from_the_steps(tmp_path):
    data = write_cifar(tmp_path / "data", copies=1)
    found = hour.estimate("cifar10-paper-hour", data, hour.ASSUMED)
    assert found["cells"] == 21 and found["steps"]["train trades"] == 3 and found["steps"]["evaluate autoattack"] == 6
    trades = 3 * (hour.STARTUP + 5880 * 128 * (2 / hour.ASSUMED["training"] + 10 / hour.ASSUMED["ascent"]))
    assert found["seconds"]["train trades"] == pytest.approx(trades, abs=1)
    twice = hour.estimate("cifar10-paper-hour", data, {k: 2 * v for k, v in hour.ASSUMED.items()})
    assert twice["minutes"] < 0.7 * found["minutes"]
