"""The command line: exit codes, one-line errors, JSON, YAML, and a start without torch."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from easycoreset.cli.commands import app
from easycoreset.cli.config import DEMO, GLOBAL, option_types_of
from support.messages import named

ROOT = Path(__file__).parents[2]
COMMANDS = ["demo", "score", "select", "train", "evaluate", "doctor"]


def test_the_main_job(cli, tmp_path):
    ran = cli("score", "--data", "digits", "--epochs", 2, "--out", tmp_path / "s", "--json")
    assert ran.code == 0 and ran.json["summary"]["rows"] == 1438 and ran.json["file"].endswith("scores.parquet")
    ran = cli(
        "select",
        "--scores",
        tmp_path / "s" / "scores.parquet",
        "--fraction",
        "1/2",
        "--per-class",
        "--out",
        tmp_path / "c.parquet",
        "--json",
    )
    assert ran.code == 0 and ran.json["kept"] == 719 and ran.json["provenance"]["method"] == "easycore:per_class=true"
    ran = cli(
        "train",
        "--data",
        "digits",
        "--coreset",
        tmp_path / "c.parquet",
        "--objective",
        "trades:steps=2",
        "--eps",
        "0.1",
        "--updates",
        30,
        "--out",
        tmp_path / "t",
        "--json",
    )
    assert ran.code == 0 and ran.json["summary"]["updates"] == 30
    ran = cli(
        "evaluate",
        "--data",
        "digits",
        "--weights",
        tmp_path / "t",
        "--attack",
        "pgd:steps=3,fgsm",
        "--eps",
        "1/255,0.1",
        "--out",
        tmp_path / "t",
        "--json",
    )
    assert ran.code == 0 and len(ran.json["summary"]["attacked"]) == 4
    assert json.loads(ran.out)["summary"]["attacked"][0]["eps"] == 1 / 255


def test_results_are_text_without_json(cli, scored, tmp_path):
    ran = cli("score", "--data", "digits", "--epochs", 5, "--out", scored)
    assert ran.code == 0 and "aign" in ran.out and named(ran.err, scored, "finished")
    ran = cli("select", "--scores", scored / "scores.parquet", "--fraction", 0.1, "--out", tmp_path / "c.parquet")
    assert (
        ran.code == 0 and re.search(r"\b144\b.*\b1438\b", ran.out) and re.search(r"warning: .*coreset.*class", ran.err)
    )
    ran = cli("doctor")
    assert ran.code == 0 and "versions" in ran.out
    assert cli("doctor", "--json").json["speed"]["cpu"]["thin_resnet_images_per_second"] > 0


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "analyze",
        "compare --methods easycore,random --fractions 0.5 --updates 3",
    ],
)
def test_a_dry_run_estimates_and_writes_nothing(cli, tmp_path, command):
    ran = cli(*command.split(), "--data", "digits", "--dry-run", "--json", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == ran.json["missing"] > 5 and ran.json["seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_progress_goes_to_standard_error_and_quiet_silences_it(cli, tmp_path):
    ran = cli("train", "--data", "digits", "--epochs", 2, "--out", tmp_path / "a")
    assert "training: 20/24, " in ran.err and " left" in ran.err and "training:" not in ran.out
    ran = cli("train", "--data", "digits", "--epochs", 2, "--quiet", "--json", "--out", tmp_path / "b")
    assert ran.err == "" and ran.json["status"] == "done"


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("trian --data digits", 'trian.*"train"'),
        ("train --data digits --epochs 1 --out {} --obj standard", r"--obj\b"),
        ("train --data digits --epochs 1 --out {} --batch-sise 3", "--batch-sise.*--batch-size"),
        ("train --data digits --epochs 1 --epochs 2 --out {}", "--epochs"),
        ("train --data digits --epochs one --out {}", "epochs.*one"),
        ("train --data digits --epochs 1.5 --out {}", r"epochs.*'1\.5'"),
        ("train --data digits --out {}", "epochs.*updates.*neither"),
        ("train --data digits --epochs 1", "--out is required"),
        ("train --epochs 1 --out {}", "--data is required"),
        ("train --data digits --epochs 1 --out {} extra", "extra"),
        ("train --data digits --epochs 1 --objective trade --out {}", "'trade'.*'trades'"),
        ("train --data digits --epochs 1 --schedule onecycel --out {}", "'onecycel'.*'onecycle'"),
        ("train --data digits --epochs 1 --device cuda --out {}", "device.*'cuda'"),
        ("train --data digits --epochs 1 --eps 8/255 --out {}", "'standard'.*'eps'"),
        ("score --data digits --epochs 1 --mode onlin --out {}", "mode.*'onlin'.*'online'"),
        ("score --data digits --epochs 1 --split tset --out {}", "split.*'tset'.*'test'"),
        ("score --data digits --epochs 1 --first 2 --out {}", r"first.*\b2\b"),
        ("select --scores {}.parquet --fraction 0.5 --out {}/c.parquet", r"out\.parquet"),
        ("select --scores SCORES --fraction 1.5 --out {}/c.parquet", r"fraction.*\b1\.5"),
        ("select --scores SCORES --fraction 0 --out {}/c.parquet", r"fraction.* 0(\.0)?$"),
        ("select --scores SCORES --fraction 0.0001 --out {}/c.parquet", r"fraction.*1438.*0\.0001"),
        ("select --scores SCORES --fraction 0.5 --out {}/c.csv", r"out.*\.parquet"),
        ("select --scores SCORES --fraction 0.5 --out SCORES", r"\bout\b.*\bscores\b"),
        ("select --scores SCORES --fraction 0.5 --method random --by loss --out {}/c.parquet", "'random'.*'by'"),
        ("select --scores SCORES --fraction 0.5 --method easiest --by lss --out {}/c.parquet", "'lss'.*'loss'"),
        ("evaluate --data digits --weights SCORED --eps 8/x --out {}", "eps.*'8/x'"),
        ("demo --out {} --workers -1", "workers.* -1$"),
        ("--list", "--list"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(cli, scored, tmp_path, line, match):
    place = str(tmp_path / "out")
    line = line.format(place, place).replace("SCORES", str(scored / "scores.parquet")).replace("SCORED", str(scored))
    before = sorted(p.name for p in scored.iterdir())
    for more in ([], ["--json"]):
        ran = cli(*line.split(), *more)
        errors = [text for text in ran.err.splitlines() if not text.startswith(("model ", "warning: "))]
        assert (
            ran.code == 2
            and re.search(match, ran.err, re.M)
            and len(errors) == 1
            and errors[0].startswith("easycoreset")
        ), ran.err
        assert ran.out == "" and "Traceback" not in ran.err
    assert not Path(place).exists() and sorted(p.name for p in scored.iterdir()) == before


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda p: p.write_bytes(b""), "Parquet"),
        (lambda p: p.write_bytes(b"PAR1" + b"x" * 50 + b"PAR1"), "Parquet"),
        (lambda p: p.mkdir(), r"scores\.parquet"),
    ],
)
def test_broken_score_files_are_named(cli, tmp_path, write, match):
    write(tmp_path / "bad.parquet")
    ran = cli("select", "--scores", tmp_path / "bad.parquet", "--fraction", 0.5, "--out", tmp_path / "c.parquet")
    assert ran.code == 2 and re.search(match, ran.err, re.M) and str(tmp_path / "bad.parquet") in ran.err


def test_foreign_score_files_are_named(cli, scored, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(scored / "scores.parquet")
    cases = [
        (table.drop_columns(["index"]), r"'index'.*\bsample_id\b"),
        (pa.table({"a": [1]}), r"'index'.*\ba$"),
        (table.slice(5), r"\bindex\b.*\b0\.\.1432\b"),
        (pa.concat_tables([table, table]), r"\bindex\b.*\b0\.\.2875\b"),
        (table.set_column(2, "label", pa.array(np.full(1438, -1))), r"'label'.*>= 0.*-1$"),
    ]
    for number, (bad, match) in enumerate(cases):
        pq.write_table(bad, tmp_path / f"{number}.parquet")
        ran = cli(
            "select", "--scores", tmp_path / f"{number}.parquet", "--fraction", 0.5, "--out", tmp_path / "c.parquet"
        )
        assert ran.code == 2 and re.search(match, ran.err, re.M), ran.err


def test_debug_shows_where(cli):
    assert "Traceback" in cli("train", "--debug", "--data", "digit", "--epochs", 1, "--out", "x").err


def test_full_and_forbidden_places(cli, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    ran = cli("train", "--data", "digits", "--epochs", 1, "--out", tmp_path / "file" / "run")
    assert ran.code == 2 and named(ran.err, "out", str(tmp_path / "file")) and "Not a directory" in ran.err
    ran = cli("train", "--data", "digits", "--epochs", 1, "--out", "/proc/run")
    assert ran.code == 2 and named(ran.err, "out", "'/proc/run'")
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(10**9, 10**9, 1000))
    ran = cli("train", "--data", "digits", "--epochs", 1, "--out", tmp_path / "full")
    assert ran.code == 2 and "0 MB free" in ran.err


@pytest.mark.slow
def test_a_really_full_disk(tmp_path):
    """A file system of 200 kB, where the machine lets us mount one: the run ends with one line, the last state kept."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a small file system")
    try:
        command = [
            sys.executable,
            "-m",
            "easycoreset",
            "train",
            "--data",
            "digits",
            "--epochs",
            "1",
            "--out",
            place / "run",
        ]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 2 and "MB free" in ran.stderr.splitlines()[-1], ran.stderr
    finally:
        subprocess.run(["umount", place], check=True)


class TestConfig:
    def test_a_file_gives_options_and_a_flag_beats_it(self, cli, tmp_path):
        (tmp_path / "c.yaml").write_text(
            "data: digits\nepochs: 1\nbatch_size: 64\nlr: 1/20\nhardness: [aign, loss]\nkeep-checkpoints: false\n"
        )
        ran = cli("score", "--config", tmp_path / "c.yaml", "--batch-size", 100, "--out", tmp_path / "s", "--json")
        options = ran.json["options"]
        assert ran.code == 0 and (options["batch_size"], options["lr"], options["epochs"]) == (100, 0.05, 1)
        assert ran.json["summary"]["columns"] == ["aign", "loss"] and not (tmp_path / "s" / "checkpoints").exists()

    def test_switches_and_what_belongs_to_every_command(self, cli, tmp_path, scored):
        (tmp_path / "c.yaml").write_text("per_class: true\njson: true\nquiet: true\nby:\n")
        arguments = [
            "select",
            "--config",
            tmp_path / "c.yaml",
            "--scores",
            scored / "scores.parquet",
            "--fraction",
            0.5,
        ]
        ran = cli(*arguments, "--out", tmp_path / "a.parquet")
        assert ran.code == 0 and ran.json["provenance"]["method"] == "easycore:per_class=true" and ran.err == ""
        ran = cli(*arguments, "--no-per-class", "--out", tmp_path / "b.parquet")
        assert ran.code == 0 and ran.json["provenance"]["method"] == "easycore"

    def test_an_empty_file_is_no_options(self, cli, tmp_path):
        (tmp_path / "c.yaml").write_text("")
        assert (
            cli(
                "train", "--config", tmp_path / "c.yaml", "--data", "digits", "--epochs", 1, "--out", tmp_path / "t"
            ).code
            == 0
        )

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("epoch: 3", "'epoch'.*train.*'epochs'"),
            ("epochs: '3'", "epochs.*'3'"),
            ("epochs: 3.0", r"epochs.*\b3\.0"),
            ("epochs: true", "epochs.*True"),
            ("compile: 1", "compile.* 1$"),
            ("lr: [1]", r"lr.*\[1\]"),
            ("lr: fast", "lr.*'fast'"),
            ("data: 3", "data.* 3$"),
            ("epochs:", "epochs.*updates.*neither"),
            ("lr: 0.1\nlr: 0.2", "'lr'"),
            ("epochs: 1\nlist: true", "'list'"),
            ("- a\n- b", r"c\.yaml.*\boptions\b"),
            ("a: [", "not YAML"),
            ("schedule: cosin", "'cosin'.*'cosine'"),
        ],
    )
    def test_bad_files(self, cli, tmp_path, text, match):
        (tmp_path / "c.yaml").write_text(text)
        more = [] if text.startswith("epochs") else ["--epochs", 1]
        ran = cli("train", "--config", tmp_path / "c.yaml", "--data", "digits", *more, "--out", tmp_path / "t")
        if "data" in text:
            ran = cli("train", "--config", tmp_path / "c.yaml", "--epochs", 1, "--out", tmp_path / "t")
        assert ran.code == 2 and re.search(match, ran.err, re.M) and not (tmp_path / "t").exists(), ran.err

    def test_a_missing_file(self, cli, tmp_path):
        ran = cli("train", "--config", tmp_path / "no.yaml", "--data", "digits", "--epochs", 1, "--out", tmp_path / "t")
        assert ran.code == 2 and "no.yaml" in ran.err


def test_every_option_of_demo_is_a_yaml_key():
    import inspect

    from easycoreset.cli.commands import demo

    assert set(DEMO) == set(inspect.signature(demo).parameters) and set(option_types_of("doctor")) == set(GLOBAL)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(cli, command):
    ran = cli(command, "--help")
    assert ran.code == 0 and f"easycoreset {command}" in ran.out
    assert all(name in cli("--help").out for name in COMMANDS)


@pytest.mark.parametrize("command", ["select", "train", "score", "evaluate"])
def test_list(cli, command):
    ran = cli(command, "--list")
    known = {"select": "easycore", "train": "trades", "score": "aign", "evaluate": "pgd"}
    assert ran.code == 0 and known[command] in ran.out
    rows = next(iter(cli(command, "--list", "--json").json.values()))
    assert all(row["name"] and row["is"] for row in rows)


def test_help_and_select_start_without_torch(scored, tmp_path):
    arguments = [
        ["--help"],
        ["score", "--help"],
        [
            "select",
            "--scores",
            str(scored / "scores.parquet"),
            "--fraction",
            "0.5",
            "--out",
            str(tmp_path / "c.parquet"),
        ],
    ]
    code = f"""
import sys
import tomllib
from easycoreset.cli import main
for arguments in {arguments!r}:
    assert main(arguments) == 0
loaded = {{"torch", "sklearn", "scipy"}} & set(sys.modules)
assert not loaded, loaded
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_names_in_brackets_are_no_markup(cli, tmp_path):
    from PIL import Image

    for name in ("[cat]", "[/x]"):
        (tmp_path / "d[/b].images" / name).mkdir(parents=True)
        for k in range(5):
            Image.new("L", (8, 8), 40 * k + 20 * len(name)).save(tmp_path / "d[/b].images" / name / f"{k}.png")
    data = ("--data", tmp_path / "d[/b].images", "--image-size", 8)
    assert cli("score", *data, "--epochs", 1, "--out", tmp_path / "s").code == 0
    ran = cli(
        "select", "--scores", tmp_path / "s" / "scores.parquet", "--fraction", 0.5, "--out", tmp_path / "c.parquet"
    )
    assert ran.code == 0 and "[cat]" in ran.out
    ran = cli(
        "evaluate", *data, "--weights", tmp_path / "s", "--attack", "fgsm", "--eps", "8/255", "--out", tmp_path / "e"
    )
    assert ran.code == 0 and "8/255" in ran.out


@pytest.mark.slow
def test_a_disk_that_fills_up_during_the_work_is_one_line(tmp_path):
    command = f"ulimit -f 40; exec {sys.executable} -m easycoreset train --data digits --epochs 3 --model thin-resnet --out {tmp_path / 'run'}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (
        ran.returncode == 1 and str(tmp_path / "run") in ran.stderr.splitlines()[-1] and "Traceback" not in ran.stderr
    )
    assert "a bug" not in ran.stderr


def test_report_takes_the_folder_as_its_first_word(cli, scored, tmp_path):
    shutil.copytree(scored, tmp_path / "run")
    ran = cli("report", tmp_path / "run")
    assert ran.code == 0 and (tmp_path / "run" / "report.html").exists(), ran.err
    assert "report FOLDER" in cli("report", "--help").out
    assert cli("report", "--format", "html").code == 2


def test_version(cli):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert cli("--version").out.strip() == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert app.name[0] == "easycoreset"
