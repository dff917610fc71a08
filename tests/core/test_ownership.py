"""No command deletes, truncates or replaces a file that it did not write: all commands, all ways that once lost data."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from easycoreset import UsageError
from easycoreset.exporting import export
from easycoreset.file_lists import STATE_MARK, FileList, delete_run
from easycoreset.files import write_atomic, write_json
from easycoreset.run_folders import open_plan_folder, open_run_folder
from support.messages import named

SMALL = ("--data", "digits", "--model", "digits-cnn")
ATTACK = ("--attack", "fgsm", "--eps", "0.1", "--limit", "20")
pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.errors.EasycoresetWarning")
OUR_NAMES = ("report.html", "model.safetensors", "scores.parquet", "checkpoint.pt", "predictions.parquet")


def photograph(folder):
    """Everything in a folder, byte for byte."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
    return found


def plant(folder, precious, names=()):
    """A user's files of every kind."""
    for name in ("thesis.tex", ".git/config", "notes/todo.txt", "data.csv", ".x.tmp", ".y.123.tmp", "a.json", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"years of work: {name}")
    Image.new("RGB", (8, 8), "red").save(folder / "photo.png")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(precious / "file.txt")
    (folder / "links").symlink_to(precious)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of `score`, `select` and `train`, and images."""
    from easycoreset import score, select, train

    root = tmp_path_factory.mktemp("made")
    score(data="digits", model="digits-cnn", epochs=1, out=root / "scores")
    select(scores=root / "scores" / "scores.parquet", fraction=0.2, per_class=True, out=root / "half.parquet")
    train(data="digits", model="digits-cnn", updates=1, out=root / "model")
    for part in ("photos", "inbox"):
        for k in range(30):
            place = root / part / (f"class {k % 3}" if part == "photos" else "")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 8 * k, np.uint8)).save(place / f"{k}.png")
    return root


@pytest.fixture
def precious(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file.txt").write_text("precious")
    return tmp_path / "precious"


def commands(made):
    """Every command that fills a folder, but for `--out`."""
    return {
        "score": ["score", *SMALL, "--epochs", 1],
        "train": ["train", *SMALL, "--updates", 1, "--coreset", made / "half.parquet"],
        "evaluate": ["evaluate", "--data", "digits", "--weights", made / "model", *ATTACK],
        "audit": ["audit", "--data", "digits", "--scores", made / "scores", "--epochs", 1],
        "predict": ["predict", "--data", made / "inbox", "--weights", made / "model"],
        "run": ["run", *SMALL, "--epochs", 1, *ATTACK],
        "analyze": ["analyze", *SMALL, "--epochs", 1, *ATTACK, "--margins", 5, "--bins", 2, "--adversarial", "none"],
        "compare": [
            "compare",
            *SMALL,
            "--methods",
            "random,easycore",
            "--fractions",
            0.2,
            "--updates",
            2,
            "--seeds",
            1,
            "--vary",
            "score.epochs=1",
            "--workers",
            1,
            *ATTACK,
        ],
        "demo": ["demo"],
    }


COMMANDS = ("score", "train", "evaluate", "audit", "predict", "run", "analyze", "compare", "demo")
PLANS = ("run", "analyze", "compare", "demo")  # whose record is plan.json


def foreign_folders(root, made, precious, command):
    """Folders that no run of the command made, as (what, folder)."""
    record = "evaluation.json" if command == "evaluate" else "plan.json" if command in PLANS else "run.json"

    def fresh(name, names=()):
        folder = root / name
        folder.mkdir(parents=True)
        plant(folder, precious, names)
        return folder

    yield "no record", fresh("a", OUR_NAMES)
    for name, text in (("empty object", "{}"), ("no json", "my run"), ("other tool", '{"command": "x", "options": 3}')):
        folder = fresh(name)
        (folder / record).write_text(text)
        yield name, folder
    (fresh("record is a folder") / record).mkdir()
    yield "record is a folder", root / "record is a folder"
    (fresh("record is a link") / record).symlink_to(precious / "file.txt")
    yield "record is a link", root / "record is a link"
    (root / "linked").symlink_to(fresh("target"))
    yield "out is a link", root / "linked"
    folder = fresh("lock is a link")
    (folder / ".lock").symlink_to(precious / "file.txt")
    yield "lock is a link", folder
    folder = fresh("of a version that kept no list")
    versioned = {
        "schema_version": 1,
        "command": {"demo": "compare"}.get(command, command),
        "options": {},
        "status": "running",
    }
    (folder / ("run.json" if command in PLANS else record)).write_text(json.dumps(versioned))
    yield "no list", folder
    other = "model" if command != "train" else "scores"
    shutil.copytree(made / other, root / "another command's")
    plant(root / "another command's", precious)
    yield "another command's", root / "another command's"
    if command in PLANS:
        folder = fresh("another plan's")
        with open_plan_folder(root / "plan", "analyze" if command == "run" else "run"):
            pass
        for file in (root / "plan").iterdir():
            shutil.copy(file, folder)
        yield "another plan's", folder


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_folder_of_somebody_else_is_not_touched(cli, made, precious, tmp_path, command, overwrite):
    arguments = [*commands(made)[command], *["--overwrite"] * overwrite]
    for what, out in foreign_folders(tmp_path / "foreign", made, precious, command):
        before = photograph(tmp_path)
        ran = cli(*arguments, "--out", out)
        assert ran.code == 2 and ran.err.count(f"easycoreset {command}: ") == 1, (what, ran.err)
        assert photograph(tmp_path) == before, what


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_beginning_anew_deletes_what_the_run_wrote_and_nothing_else(cli, made, precious, tmp_path, command):
    out = tmp_path / "out"
    arguments = commands(made)[command]
    assert cli(*arguments, "--out", out).code == 0
    plant(out, precious, ("scores of mine/scores.parquet", "checkpoints of mine/a.pt"))
    before = {**photograph(out)}
    ours = _listed(out) | _links_to_steps(out)
    users = {name: content for name, content in before.items() if name not in ours}
    assert len(users) > 12
    other = "--weight-decay" if command == "compare" else "--seed"
    ran = cli(*arguments, other, 7, "--out", out, "--overwrite")
    assert ran.code == 0, ran.err
    after = photograph(out)
    assert {name: after.get(name) for name in users} == users
    assert photograph(precious) == {"file.txt": b"precious"}
    changed = next(
        out / name
        for name in sorted(_listed(out))
        if name.endswith((".parquet", "analysis.json", "comparison.json", "model.safetensors")) and "/" not in name
    )
    changed.write_bytes(changed.read_bytes() + b"notes of mine")
    before = photograph(out)
    ran = cli(*arguments, other, 8, "--out", out, "--overwrite")
    assert ran.code == 2 and changed.name in ran.err, ran.err
    assert photograph(out) == before


def _listed(folder):
    """What lists name in a folder, and the lists and locks themselves; folders that were made are looked into."""
    names = set()
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(".written"):
            record = path.name[1 : -len(".written")]
            inner = path.parent.relative_to(folder)
            names |= {(inner / name).as_posix() for name in FileList(path.parent, record).entries()}
            names.add(path.relative_to(folder).as_posix())
        elif path.name == ".lock":
            names.add(path.relative_to(folder).as_posix())
    return names


def _links_to_steps(folder):
    """The links that `run` makes, and the folder that holds some of them."""
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()}
    made -= {"link", "links"}  # the user's
    return made | ({"evaluation"} if made else set())


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_and_results_lie_apart(cli, made, precious, tmp_path, overwrite):
    a = tmp_path / "a"
    shutil.copytree(made, a)
    shutil.copytree(made / "model", tmp_path / "m")
    np.savez(a / "digits.npz", x=np.zeros((9, 8, 8), np.uint8), y=np.arange(9) % 3)
    (a / "list.csv").write_text("filepath,label\nphotos/class 0/0.png,a\nphotos/class 1/1.png,b\n")
    (a / "ids.txt").write_text("1\n2\n")
    (a / "options.yaml").write_text("lr: 0.1\n")
    plant(a, precious)
    sized = ["--image-size", 8, "--model", "digits-cnn"]
    cases = [
        ["train", "--data", a / "photos", *sized, "--updates", 1, "--out", a],
        ["train", "--data", a / "digits.npz", "--updates", 1, "--out", a],
        ["train", "--data", a / "list.csv", *sized, "--updates", 1, "--out", a],
        ["train", *SMALL, "--updates", 1, "--coreset", a / "half.parquet", "--out", a],
        ["train", *SMALL, "--updates", 1, "--init", a / "model", "--out", a],
        ["train", *SMALL, "--updates", 1, "--config", a / "options.yaml", "--out", a],
        ["score", *SMALL, "--checkpoints", a / "scores" / "checkpoints", "--out", a],
        ["evaluate", "--data", "digits", "--weights", a / "model", *ATTACK, "--out", a],
        ["audit", "--data", "digits", "--scores", a / "scores", "--epochs", 1, "--out", a],
        ["audit", "--data", "digits", "--scores", a / "scores", "--wrong", a / "ids.txt", "--epochs", 1, "--out", a],
        ["predict", "--data", a / "inbox", "--weights", made / "model", "--out", a],
        ["predict", "--data", made / "inbox", "--weights", a / "model", "--out", a / "model"],
        ["run", "--data", a / "photos", *sized, "--epochs", 1, "--out", a],
        ["run", *SMALL, "--exclude", a / "ids.txt", "--out", a],
        [
            "compare",
            *SMALL,
            "--methods",
            f"random,file:{a / 'ids.txt'}",
            "--fractions",
            0.2,
            "--updates",
            1,
            "--out",
            a,
        ],
        ["analyze", "--data", a / "photos", "--epochs", 1, "--out", a],
        ["train", "--data", a / "photos", *sized, "--updates", 1, "--out", a / "photos" / "run"],
        ["audit", "--data", "digits", "--scores", a / "scores", "--epochs", 1, "--out", a / "scores" / "audit"],
        ["predict", "--data", made / "inbox", "--weights", a / "model", "--out", a / "model" / "labels"],
        ["evaluate", "--data", "digits", "--weights", tmp_path / "m", *ATTACK, "--out", tmp_path / "m" / "evaluation"],
        [
            "compare",
            "--data",
            a / "photos",
            "--methods",
            "random",
            "--fractions",
            0.2,
            "--updates",
            1,
            "--out",
            a / "photos" / "g",
        ],
    ]
    before = photograph(tmp_path)
    for arguments in cases:
        ran = cli(*arguments, *["--overwrite"] * overwrite)
        assert ran.code == 2 and ran.err.splitlines()[-1].startswith(f"easycoreset {arguments[0]}: "), (
            arguments,
            ran.err,
        )
        assert photograph(tmp_path) == before, arguments


def test_an_evaluation_may_lie_in_its_models_folder_and_begins_anew_there_alone(cli, made, precious, tmp_path):
    home = shutil.copytree(made / "model", tmp_path / "model")
    plant(home, precious, ("report.html",))
    before = photograph(home)
    command = ["evaluate", "--data", "digits", "--weights", home, *ATTACK, "--save-adversarial", "--out", home]
    assert cli(*command).code == 0
    assert (home / "evaluation.json").exists() and any((home / "adversarial").iterdir())
    (home / "adversarial" / "mine.safetensors").write_bytes(b"mine")
    assert cli(*command, "--seed", 3, "--overwrite").code == 0
    after = photograph(home)
    assert {name: after[name] for name in before} == before
    assert after["adversarial/mine.safetensors"] == b"mine"


def test_a_refused_start_leaves_no_trace(cli, tmp_path, monkeypatch, precious):
    def start(out):
        ran = cli("train", *SMALL, "--updates", 1, "--out", out)
        assert ran.code in (1, 2)

    plant(tmp_path / "precious", precious)
    before = photograph(tmp_path)
    start(precious)
    start(precious / "thesis.tex" / "run")
    monkeypatch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    start(tmp_path / "new" / "deep" / "run")
    assert photograph(tmp_path) == before


def test_whoever_finds_a_folder_busy_leaves_it_as_it_is(cli, tmp_path):
    with open_run_folder(tmp_path / "run", "train", {"a": 1}):
        before = photograph(tmp_path)
        ran = cli("train", *SMALL, "--updates", 1, "--out", tmp_path / "run", "--overwrite")
        assert ran.code == 1 and named(ran.err, "process", str(tmp_path / "run"))
        assert photograph(tmp_path) == before


def test_what_a_killed_process_left_half_written_goes_and_nothing_else_that_is_called_alike(tmp_path):
    names = []
    with open_run_folder(tmp_path / "run", "x", {}) as run:

        def fail(temporary):
            temporary.write_text("half")
            names.append(temporary)
            shutil.copy(temporary, tmp_path / "left")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_atomic(run.path / "a.txt", fail)
        shutil.move(tmp_path / "left", names[0])  # as a kill leaves it
        others = [run.path / ".mine.tmp", run.path / f".b.txt.{'-'.join(names[0].name.split('.')[3].split('-'))}.tmp"]
        for other in others:
            other.write_text("mine")
    assert str(os.getpid()) in names[0].name and len(names[0].name) > len(f".a.txt.{os.getpid()}.tmp") + 12
    with open_run_folder(tmp_path / "run", "x", {}):
        assert not names[0].exists() and all(other.read_text() == "mine" for other in others)


def test_a_list_that_came_from_elsewhere_reaches_nothing(tmp_path, precious):
    run = tmp_path / "run"
    with open_run_folder(run, "x", {}):
        write_json(run / "result.json", {})
    (run / "thesis.tex").write_text("years of work")
    (run / "link").symlink_to(precious)
    digest = FileList(run, "run.json").entries()["result.json"]
    forged = [
        ["../precious/file.txt", "state"],
        [str(precious / "file.txt"), "state"],
        ["link/file.txt", "state"],
        ["thesis.tex", "state"],
        ["thesis.tex", "temporary"],
        ["thesis.tex", next(iter(digest))],
        ["thesis.tex", "folder"],
        ["link", "step run.json"],
        ["link", "folder"],
        ["../precious", "step run.json"],
        [3, 4],
        {},
        "x",
    ]
    with open(run / ".run.json.written", "a") as opened:
        opened.writelines(json.dumps(line) + "\n" for line in forged)
        opened.write("{ cut off")
    with pytest.raises(UsageError, match=r"thesis\.tex"), open_run_folder(run, "x", {}, overwrite=True):
        pass
    delete_run(run, "run.json")
    assert photograph(precious) == {"file.txt": b"precious"}
    assert {path.name for path in run.iterdir()} == {"thesis.tex", "link", ".lock", ".run.json.written"}
    assert not FileList(run, "run.json").entries()


def test_nothing_is_written_through_a_link_in_a_run(tmp_path, precious):
    with open_run_folder(tmp_path / "run", "x", {}) as run:
        (run.path / "trajectory").symlink_to(precious)
        (run.path / "a.json").symlink_to(precious / "file.txt")
        for name in ("trajectory/file.txt", "trajectory/new.json", "a.json"):
            with pytest.raises(UsageError):
                write_json(run.path / name, {})
    assert photograph(precious) == {"file.txt": b"precious"}


def test_select_replaces_its_own_coreset_alone(cli, made, precious, tmp_path):
    command = ["select", "--scores", made / "scores" / "scores.parquet", "--fraction", 0.3]
    plant(tmp_path, precious)
    shutil.copytree(made / "model", tmp_path / "model")
    shutil.copy(made / "scores" / "scores.parquet", tmp_path / "theirs.parquet")
    shutil.copy(made / "half.parquet", tmp_path / "no record.parquet")
    (tmp_path / "linked.parquet").symlink_to(made / "half.parquet")
    (tmp_path / "b.json").symlink_to(precious / "file.txt")
    before = photograph(tmp_path)
    for name in ("theirs", "no record", "linked", "a", "b", "model/run", "model/model"):
        ran = cli(*command, "--out", tmp_path / f"{name}.parquet")
        assert ran.code == 2, (name, ran.err)
        assert photograph(tmp_path) == before, name
    for share in (0.3, 0.4):
        assert cli(*command[:-1], share, "--out", tmp_path / "own.parquet").code == 0
    ran = cli(*command, "--method", f"file:{tmp_path / 'own.parquet'}", "--out", tmp_path / "own.parquet")
    assert ran.code == 2 and named(ran.err, "out", "method", "own.parquet")
    own = tmp_path / "own.parquet"
    own.write_bytes(own.read_bytes() + b"x")
    before = photograph(tmp_path)
    assert cli(*command, "--out", own).code == 2 and photograph(tmp_path) == before


def test_a_killed_select_is_done_again(made, tmp_path, monkeypatch):
    from easycoreset import Coreset, select

    options = {"scores": made / "scores" / "scores.parquet", "out": tmp_path / "half.parquet"}
    select(**options, fraction=0.2)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda old, new: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            select(**options, fraction=0.4)
    assert Coreset.read(tmp_path / "half.parquet").keep.mean() == pytest.approx(0.2, abs=0.001)
    select(**options, fraction=0.4)
    assert Coreset.read(tmp_path / "half.parquet").keep.mean() == pytest.approx(0.4, abs=0.001)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("csv", "a.csv"),
        ("index", "a.txt"),
        ("index", "a.npz"),
        ("cleanlab", "a.csv"),
        ("fiftyone", "a.json"),
        ("card", "a.md"),
    ],
)
def test_an_export_replaces_no_file(cli, made, precious, tmp_path, form, name):
    source = made / "scores" / "scores.parquet" if form == "cleanlab" else made / "half.parquet"
    out = tmp_path / name
    for spoil in (lambda: out.write_text("mine"), lambda: out.symlink_to(precious / "file.txt"), out.mkdir):
        spoil()
        before = photograph(tmp_path)
        ran = cli("export", source, "--format", form, "--out", out)
        assert ran.code == 2 and photograph(tmp_path) == before
        out.rmdir() if out.is_dir() and not out.is_symlink() else out.unlink()
    assert cli("export", source, "--format", form, "--out", out).code == 0
    assert cli("export", source, "--format", form, "--out", out).code == 0  # the same again changes nothing


def test_an_exported_folder_is_replaced_only_as_it_was_exported(made, precious, tmp_path):
    from easycoreset import score, select

    score(data=str(made / "photos"), image_size=8, model="digits-cnn", epochs=1, out=tmp_path / "s")
    select(scores=tmp_path / "s" / "scores.parquet", fraction=0.5, out=tmp_path / "half.parquet")
    given = {"format": "folder", "data": str(made / "photos"), "copy": True}
    out = tmp_path / "kept"
    export(tmp_path / "half.parquet", **given, out=out)
    export(tmp_path / "half.parquet", **given, out=out)
    picture = next(out.rglob("*.png"))
    Image.new("L", (8, 8), 77).save(picture)  # by hand, under the same name
    (tmp_path / "elsewhere").symlink_to(out)
    before = photograph(tmp_path)
    for place in (out, tmp_path / "elsewhere"):
        with pytest.raises(UsageError):
            export(tmp_path / "half.parquet", **given, out=place)
        assert photograph(tmp_path) == before


def test_a_page_that_report_did_not_write_stays(cli, made, tmp_path):
    folder = shutil.copytree(made / "scores", tmp_path / "scores")
    (folder / "report.html").write_text("<h1>My thesis</h1>")
    before = photograph(folder)
    ran = cli("report", "--out", folder)
    assert ran.code == 2 and named(ran.err, "out", "report.html") and photograph(folder) == before
    (folder / "report.html").unlink()
    assert cli("report", "--out", folder).code == 0 and cli("report", "--out", folder).code == 0
    (folder / "report.html").write_text((folder / "report.html").read_text() + "<!-- my notes -->")
    before = photograph(folder)
    assert cli("report", "--out", folder).code == 2 and photograph(folder) == before


def interrupted(folder, **options):
    """A run that was stopped after its first epoch: its checkpoint is there."""
    from easycoreset import train

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("easycoreset.training.finish_training", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        train(data="digits", model="digits-cnn", epochs=2, out=folder, **options)
    assert (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("deleted", range(5))
def test_an_overwrite_that_was_killed_leaves_nothing_to_go_on_from(tmp_path, monkeypatch, deleted):
    from easycoreset import train

    interrupted(tmp_path / "run")
    train(data="digits", model="digits-cnn", epochs=1, lr=0.01, out=tmp_path / "fresh")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    unlink = Path.unlink
    calls = []

    def kill(path, **options):
        calls.append(path)
        if len(calls) > deleted:
            raise KeyboardInterrupt
        unlink(path, **options)

    again = {"data": "digits", "model": "digits-cnn", "epochs": 1, "lr": 0.01, "out": tmp_path / "run"}
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "unlink", kill)
        train(**again, overwrite=True)
    if (tmp_path / "run" / "run.json").exists() and deleted < 2:  # of the run before, whole
        with pytest.raises(UsageError, match=r"run\.json.*\bepochs=2\b"):
            train(**again)
    train(**again, overwrite=deleted % 2 == 0 or deleted < 2)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "fresh" / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_what_a_version_without_a_list_left_unfinished_is_refused_before_work_begins(tmp_path):
    from easycoreset import train

    interrupted(tmp_path / "run")
    (tmp_path / "run" / ".run.json.written").unlink()
    before = photograph(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="version 0.1"):
            train(data="digits", model="digits-cnn", epochs=2, out=tmp_path / "run", overwrite=overwrite)
    assert photograph(tmp_path) == before


@pytest.mark.slow
def test_a_grid_that_lost_its_lists_grows(cli, made, tmp_path):
    out = tmp_path / "grid"
    arguments = commands(made)["compare"]
    assert cli(*arguments, "--out", out).code == 0
    for file in out.rglob(".*.written"):
        file.unlink()
    stamps = {file: file.stat().st_mtime_ns for file in out.glob("steps/*/step.json")}
    for name in ("report.html", "contrasts.json", "results.parquet"):  # which of them are its own nobody can tell
        ran = cli(*arguments, "--out", out)
        assert ran.code == 2 and f"{out / name} is in the way" in ran.err
        (out / name).unlink()
    more = [argument if argument != "random,easycore" else "random,easycore,hardest" for argument in arguments]
    ran = cli(*more, "--out", out)
    assert ran.code == 0, ran.err
    assert stamps and all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    assert len(list(out.glob("steps/train-*/step.json"))) == 1 + sum("train-" in str(file) for file in stamps)
    ran = cli(*arguments, "--out", out, "--overwrite")  # what it did not list is not deleted
    assert all(file.exists() for file in stamps)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_grid_of_version_01_is_refused(cli, made, tmp_path, overwrite):
    out = tmp_path / "grid"
    (out / "cells" / "0123456789abcdef").mkdir(parents=True)
    (out / "cells" / "0123456789abcdef" / "cell.json").write_text("{}")
    record = {"schema_version": 1, "command": "compare", "options": {}, "status": "done", "summary": {}}
    (out / "run.json").write_text(json.dumps(record))
    before = photograph(out)
    ran = cli(*commands(made)["compare"], *["--overwrite"] * overwrite, "--out", out)
    assert ran.code == 2 and named(ran.err, "plan.json", "run.json", "--out") and photograph(out) == before


def test_a_spoilt_step_is_set_aside_and_a_users_file_in_it_is_not(tmp_path):
    from easycoreset.file_lists import FileList
    from easycoreset.run_folders import discard_step

    step = tmp_path / "train-0123456789abcdef"
    step.mkdir()
    with FileList(step, "run.json").active():
        write_json(step / "run.json", {})
        write_json(step / "trajectory" / "a.json", {})
    (step / "notes.txt").write_text("mine")
    before = photograph(step)
    with pytest.raises(UsageError, match=r"notes\.txt"):
        discard_step(step, "run.json")
    assert photograph(step) == before
    (step / "notes.txt").unlink()
    (step / "run.json").write_text("damaged")
    discard_step(step, "run.json")
    (aside,) = tmp_path.glob(".train-0123456789abcdef.*.aside")
    assert photograph(aside)["run.json"] == b"damaged" and not step.exists()


def test_what_is_left_of_a_run_is_known_by_its_name_only_while_it_is_listed(tmp_path):
    """A checkpoint of somebody's, where ours was until the run was finished; a record of another program's."""
    from easycoreset import train

    options = {"data": "digits", "model": "digits-cnn", "updates": 1, "out": tmp_path / "run"}
    train(**options)
    for name, content in (("checkpoint.pt", "my own weights"), ("run.json", '{"hydra": "my own run"}')):
        before = (tmp_path / "run" / name).read_bytes() if name == "run.json" else None
        (tmp_path / "run" / name).write_text(content)
        for overwrite in (False, True):
            if overwrite or name == "run.json":
                with pytest.raises(UsageError, match=name):
                    train(**options, overwrite=overwrite)
            assert (tmp_path / "run" / name).read_text() == content
        (tmp_path / "run" / name).unlink() if before is None else (tmp_path / "run" / name).write_bytes(before)
    (tmp_path / "run" / "run.json").write_text("{ my notes, or a fault of the disk")
    train(**options, overwrite=True)
    (aside,) = (tmp_path / "run").glob(".run.json.*.aside")
    assert aside.read_text().startswith("{ my notes")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_guest_in_a_step_and_an_edited_step(cli, made, tmp_path, command):
    """What will be in the way is found before anything is deleted, in the folders of steps too; a guest stays."""
    out = tmp_path / "out"
    arguments = commands(made)[command]
    assert cli(*arguments, "--out", out).code == 0
    models = sorted(file.parent for file in out.glob("steps/train-*/model.safetensors"))
    for model in models:
        evaluate = ["evaluate", "--data", "digits", "--weights", model, *ATTACK, "--out", model]
        assert cli(*evaluate).code == 0
    hosts = tuple(f"{model.relative_to(out).as_posix()}/" for model in models)
    guest = {
        name: content
        for name, content in photograph(out).items()
        if name.startswith(hosts) and ("/evaluation" in name or "/predictions" in name)
    }
    assert len(guest) == 2 * len(models) >= 4
    other = "--weight-decay" if command == "compare" else "--seed"
    for more in ((), (other, 3), (other, 4)):  # the same models again, and others
        ran = cli(*arguments, *more, "--out", out, "--overwrite")
        assert ran.code == 0, ran.err
        after = photograph(out)
        assert {name: after.get(name) for name in guest} == guest
    edited = next(iter(sorted(out.glob("steps/score-*/scores.parquet"))))
    edited.write_bytes(b"edited")
    before = photograph(out)
    ran = cli(*arguments, other, 5, "--out", out, "--overwrite")
    assert ran.code == 2 and edited.relative_to(out).as_posix() in ran.err and photograph(out) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made):
    """What `run` wrote."""
    from easycoreset.cli import main

    out = tmp_path_factory.mktemp("finished") / "out"
    assert main([str(argument) for argument in (*commands(made)["run"], "--out", out)]) == 0
    return out


@pytest.mark.parametrize(
    ("place", "take"),
    [
        ("coreset.parquet", "file"),
        ("model", "file"),
        ("model", "folder"),
        ("model", "link"),
        ("evaluation/all", "folder"),
        ("model", "link to steps"),
        ("evaluation", "link"),
        ("evaluation", "file"),
    ],
)
def test_what_lies_where_a_link_to_a_step_belongs_stays(cli, made, finished, precious, tmp_path, place, take):
    """And is found before anything runs, whatever it is."""
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    taken = out / place
    shutil.rmtree(taken) if taken.is_dir() and not taken.is_symlink() else taken.unlink()
    (precious / "steps").mkdir()
    if take == "folder":
        taken.mkdir()
    elif take == "file":
        taken.write_text("mine")
    else:
        taken.symlink_to(precious / "steps" if take == "link to steps" else precious)
    before = photograph(tmp_path)
    ran = cli(*commands(made)["run"], "--seed", 3, "--out", out)
    assert ran.code == 2 and named(ran.err, "out", str(taken)), ran.err
    assert photograph(tmp_path) == before


def test_a_users_file_in_a_step_may_change(cli, made, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    (out / "model" / "notes.txt").write_text("mine")
    (out / "model" / "step.json").unlink()  # as if the step had not finished
    assert cli(*commands(made)["run"], "--out", out).code == 0
    (out / "model" / "notes.txt").write_text("mine, longer")
    ran = cli(*commands(made)["run"], "--out", out)
    assert ran.code == 0, ran.err


def test_a_damaged_audit_is_made_again_beside_its_page(cli, made, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    content = (out / "audit" / "audit.parquet").read_bytes()
    (out / "audit" / "audit.parquet").write_bytes(content[:-10])
    ran = cli(*commands(made)["run"], "--out", out)
    assert ran.code == 0 and (out / "audit" / "audit.parquet").read_bytes() == content, ran.err


@pytest.mark.parametrize("content", [b"", b'["easycore'])
def test_a_list_that_was_hardly_begun_blocks_nothing(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.written").write_bytes(content)
    (tmp_path / "run" / ".lock").touch()
    with open_run_folder(tmp_path / "run", "x", {}) as run:
        write_json(run.path / "a.json", {})
    assert set(FileList(tmp_path / "run", "run.json").entries()) >= {"a.json", "run.json"}


def test_a_list_is_read_once(tmp_path):
    """Thousands of files take no longer each than the first."""
    with open_run_folder(tmp_path / "run", "x", {}) as run:
        for number in range(3000):
            write_json(run.path / "a.json", {"number": number})
        entries = FileList(run.path, "run.json").entries()["a.json"]
    assert len(entries) == 2  # the last two contents


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_what_a_killed_process_cut_off_costs_no_other_entry(tmp_path, cut):
    with open_run_folder(tmp_path / "run", "x", {}) as run:
        write_json(run.path / "a.json", {})
        file = run.path / ".run.json.written"
        file.write_bytes(file.read_bytes() + b'["other.json", "temporary"]\n'[:cut])
        FileList(run.path, "run.json").add(run.path / "checkpoint.pt", STATE_MARK)
        entries = FileList(run.path, "run.json").entries()
    assert {"a.json", "checkpoint.pt"} <= set(entries)


def test_an_exported_folder_that_was_being_replaced_is_given_back(made, tmp_path, monkeypatch):
    coreset = shutil.copy(made / "half.parquet", tmp_path / "half.parquet")
    out = tmp_path / "kept"
    export(coreset, format="folder", data="digits", out=out)
    before = photograph(out)
    rename = os.rename

    def kill(old, new):
        if str(new) == str(out):
            raise KeyboardInterrupt
        rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", kill)
        export(coreset, format="folder", data="digits", out=out)
    assert not out.exists()
    with pytest.raises(UsageError):
        export(coreset, format="folder", data="nowhere", out=out)
    export(coreset, format="folder", data="digits", out=out)
    assert {n: c for n, c in photograph(out).items() if n != "export.json"} == {
        n: c for n, c in before.items() if n != "export.json"
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".old")] == []
