"""Every failure names its cause, the option and what goes on, in one line; an empty string is no path."""

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from easycoreset import Coreset, select
from easycoreset.cli import insert_default_values
from easycoreset.errors import UsageError
from easycoreset.files import describe_write_error
from easycoreset.tables import Scores
from support.messages import named

LINES = {
    "unknown beside missing": (
        ("score", "--dat", "digits", "--out", "x"),
        ["--data ", "--dat ", "--data?"],
    ),
    "a folder that is not there": (("run", "photos"), ["'photos'"]),
    "a folder by itself": (("score", "photos"), ["--data photos?"]),
    "empty out": (("score", "--data", "digits", "--epochs", "1", "--out", ""), [": out ", "''"]),
    "empty coreset": (
        ("train", "--data", "digits", "--updates", "1", "--out", "x", "--coreset", ""),
        [": coreset ", "''"],
    ),
    "empty weights": (("evaluate", "--data", "digits", "--weights=", "--out", "x"), [": weights ", "''"]),
    "a long name": (
        ("score", "--data", "digits", "--epochs", "1", "--out", "a" * 300),
        [": out ", "'aaa"],
    ),
    "a long coreset": (
        ("train", "--data", "digits", "--updates", "1", "--out", "x", "--coreset", "a" * 300),
        [": coreset ", "'aaa"],
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_wrong_use_in_one_line(tmp_path, monkeypatch, cli, name):
    monkeypatch.chdir(tmp_path)
    arguments, parts = LINES[name]
    ran = cli(*arguments)
    assert ran.code == 2 and ran.err.count("\n") == 1 and all(part in ran.err for part in parts), ran.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["out", "scores"])
def test_an_empty_path_in_python(tmp_path, scored, option):
    given = {"scores": scored / "scores.parquet", "fraction": 0.5, "out": tmp_path / "c.parquet"} | {option: ""}
    with pytest.raises(UsageError, match=f"^{option}\\b.*''"):
        select(**given)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from easycoreset.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("limit", [60_000, 20_000])
@pytest.mark.slow
def test_a_file_size_limit_is_named(tmp_path, limit):
    arguments = ["train", "--data", "digits", "--updates", "2", "--out", str(tmp_path / "t")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and os.strerror(errno.EFBIG) in last, done.stderr
    assert "inline_container" not in done.stderr and not list(tmp_path.rglob("*probe*"))


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 4096})())
    said = describe_write_error(RuntimeError("inline_container.cc:672"), tmp_path / "a")
    assert named(said, os.strerror(errno.ENOSPC), "0 MB ")
    monkeypatch.undo()
    assert describe_write_error(RuntimeError("a\nreason"), tmp_path / "a") == "a reason"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_audit_and_select_take_a_runs_folder_alike(tmp_path, cli, scored):
    for place in (scored, scored / "scores.parquet"):
        ran = cli("select", "--scores", place, "--fraction", 0.5, "--method", "random", "--out", tmp_path / "c.parquet")
        assert ran.code == 0, ran.err
        ran = cli("audit", "--data", "digits", "--scores", place, "--epochs", 1, "--out", tmp_path / f"a-{place.name}")
        assert ran.code == 0, ran.err
    ran = cli("select", "--scores", tmp_path, "--fraction", 0.5, "--out", tmp_path / "d.parquet")
    assert ran.code == 2 and named(ran.err, tmp_path, "scores.parquet")


def test_what_changed_in_the_data_is_named(png_folder, tmp_path, cli):
    given = ("--data", png_folder, "--model", "thin-resnet", "--image-size", 8)
    assert cli("score", *given, "--epochs", 1, "--out", tmp_path / "s").code == 0
    table = Scores.read(tmp_path / "s")
    assert (
        cli(
            "select",
            "--scores",
            tmp_path / "s",
            "--fraction",
            0.5,
            "--method",
            "random",
            "--out",
            tmp_path / "c.parquet",
        ).code
        == 0
    )
    gone = table.sample_ids[0]
    (png_folder / gone).unlink()
    for command in (
        ("train", *given, "--coreset", tmp_path / "c.parquet", "--updates", 1, "--out", tmp_path / "t"),
        ("audit", "--data", png_folder, "--scores", tmp_path / "s", "--out", tmp_path / "a"),
    ):
        ran = cli(*command)
        assert ran.code == 2 and f"gone: {gone}" in ran.err and "--allow-subset" in ran.err, ran.err
    ran = cli("score", *given, "--epochs", 1, "--out", tmp_path / "s")
    assert ran.code == 2 and f"gone: {gone}" in ran.err and "--overwrite" in ran.err, ran.err


def test_radii_are_written_as_people_do(cli):
    shown = " ".join(cli("run", "--help").out.split())
    assert "1/255,2/255,4/255,8/255" in shown and "0.0039" not in shown


@pytest.mark.parametrize("command", ["select", "train", "score", "evaluate", "compare", "run", "analyze", "export"])
def test_every_command_that_names_members_lists_them(cli, command):
    ran = cli(command, "--list")
    assert ran.code == 0 and len(ran.out.splitlines()) > 4


def test_doctor_prints_a_table(cli):
    shown = cli("doctor").out
    assert "┃" in shown and "torch" in shown and "{" not in shown


def test_a_column_of_no_values_is_refused(tmp_path):
    table = Scores(
        sample_ids=list("abcd"),
        labels=np.array([0, 1, 0, 1]),
        class_names=["x", "y"],
        n_obs=np.zeros(4, np.int32),
        columns={"aign": np.full(4, np.nan, np.float32)},
    )
    table.write(tmp_path / "s.parquet")
    with pytest.raises(UsageError, match="column 'aign'"):
        select(scores=tmp_path / "s.parquet", fraction=0.5, out=tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()


def test_a_cluster_that_is_not_there_leaves_nothing(tmp_path, cli):
    pytest.importorskip("ray")
    ran = cli(
        "compare",
        "--data",
        "digits",
        "--methods",
        "random",
        "--fractions",
        0.1,
        "--updates",
        1,
        "--seeds",
        1,
        "--on",
        "ray:127.0.0.1:1",
        "--out",
        tmp_path / "g",
    )
    assert ran.code == 2 and named(ran.err, "on: ", "Ray") and not (tmp_path / "g").exists()


def test_colours_of_libraries_are_left_out(monkeypatch, capsys):
    from easycoreset import cli as door

    monkeypatch.setattr(door, "launch", None)
    door._fail(UsageError("\x1b[1mfailed\x1b[0m  twice\n" + "x" * 9000), 2, ["score"])
    said = capsys.readouterr().err
    assert said.startswith("easycoreset score: failed twice") and "\x1b" not in said and len(said) < 5000
    assert insert_default_values(["a", "--margins"], "--margins", "fmn") == ["a", "--margins", "fmn"]


THINGS = {
    "Arrow": lambda: pa.table({"a": range(6)}),
    "generator": lambda: (row for row in range(6)),
    "iterable": lambda: map(int, "012345"),
}


@pytest.mark.parametrize("name", THINGS)
def test_a_coreset_of_any_kind_of_data(name):
    scores = Scores(
        sample_ids=list("abcdef"),
        labels=np.zeros(6, np.int64),
        class_names=["x"],
        n_obs=np.ones(6, np.int32),
        columns={},
    )
    coreset = Coreset.from_order(np.array([4, 1]), scores)
    kept = coreset.apply(THINGS[name]())
    assert (kept["a"].to_pylist() if name == "Arrow" else list(kept)) == [1, 4]
    short = coreset.apply(iter(range(5)))
    with pytest.raises(UsageError, match=r"coreset.*\b6\b.*\b5$"):
        list(short)
