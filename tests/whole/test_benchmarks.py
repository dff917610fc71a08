"""The benchmarks' own arithmetic, and the check of committed results: a changed figure is found."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from benchmarks import __main__ as runner
from benchmarks import check, growth, timing
from benchmarks.children import spend
from benchmarks.figures import beside
from benchmarks.grids import cheapest, compare_cell, read_experiment, rows_of
from benchmarks.scatter import scatter

from support.messages import named

ROOT = Path(__file__).parents[2]
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
    for name, method in (("digits-methods", "random"), ("cifar10-quick", "random"), ("cifar10-objectives", "full")):
        cells = {cell.name: cell for cell in read_experiment(ROOT / "results" / name).cells()}
        table = pq.read_table(ROOT / "results" / name / "results.parquet")
        seconds = {row["cell"]: row["seconds"] for row in table.to_pylist()}
        free = [key for key in seconds if not cells[key].needs_scores and cells[key].objective == "standard"]
        found = cheapest(table, cells)
        assert cells[found].method == method and seconds[found] == min(seconds[key] for key in free)


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


def test_every_committed_result_has_its_check():
    """Of those of a CPU; a folder of images that no file here makes is known to be one that nothing does again."""
    unchecked = {
        "run-cifar10-folder.json",
        "analysis-cifar10",
        "attacks-cifar10.json",
        "margins-cifar10",
    }  # whose parts are no cheaper than an hour
    found = {path.name for path in (ROOT / "results").iterdir() if path.is_dir() or path.suffix == ".json"}
    assert {name for name in found if "gpu" not in name} - unchecked <= {*check.CHECKS, *check.WHOLE}


@pytest.mark.slow
def test_a_real_cell_is_done_again_and_a_changed_figure_of_it_is_found(tmp_path):
    """The recorded accuracies and their intervals are moved up by a fifth: what is found is what was there before."""
    folder = tmp_path / "digits-methods"
    shutil.copytree(ROOT / "results" / "digits-methods", folder)
    table = pq.read_table(folder / "results.parquet")
    cells = {cell.name: cell for cell in read_experiment(folder).cells()}
    first = rows_of(table, cheapest(table, cells))[0]
    for name in ("accuracy", "low", "high"):
        table = table.set_column(table.column_names.index(name), name, pc.add(table[name], pa.scalar(0.2)))
    pq.write_table(table, folder / "results.parquet")
    verdict = check.check(folder, None, False)
    assert verdict.holds is False
    found = re.search(r"eps 0\.1: ([0-9.]+) .*? ([0-9.]+) ", verdict.said)
    assert found is not None and float(found[2]) == pytest.approx(first["accuracy"] + 0.2, abs=1e-4)
    assert float(found[1]) == pytest.approx(first["accuracy"], abs=0.05)  # another processor rounds otherwise
