"""Files that came from elsewhere: what they name is not read, shown, asked for, run, or written to the terminal."""

import csv
import gzip
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from easycoreset import Scores, UsageError, load_model, open_source, score, select, train
from easycoreset.errors import MAX_MESSAGE
from easycoreset.exporting import export
from easycoreset.reporting import report
from easycoreset.yaml_files import read_yaml
from support.messages import named

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.errors.EasycoresetWarning")
SHOWN = '<li><img src="data:image'
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


@pytest.fixture
def photos(tmp_path):
    """Images of two classes, scored, and a coreset of them."""
    for k in range(24):
        place = tmp_path / "photos" / f"class {k % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * k, np.uint8)).save(place / f"{k:02d}.png")
    score(data=str(tmp_path / "photos"), image_size=8, model="digits-cnn", epochs=1, out=tmp_path / "run")
    select(scores=tmp_path / "run" / "scores.parquet", fraction=0.5, out=tmp_path / "run" / "coreset.parquet")
    return tmp_path


def rewrite(file, provenance=lambda facts: facts, **columns):
    """Change columns and provenance of a table, as anybody can."""
    table = pq.read_table(file)
    for name, change in columns.items():
        values = [change(value) for value in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    facts = provenance(json.loads(table.schema.metadata[b"easycoreset"]))
    pq.write_table(table.replace_schema_metadata({"easycoreset": json.dumps(facts)}), file)


def edit(file, **changes):
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, **changes}))


@pytest.fixture
def no_network(monkeypatch):
    asked = []

    def refuse(*arguments, **options):
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    return asked


class TestAFolderThatNamesOthersPictures:
    @pytest.mark.parametrize("name", ["../private/passport.png", "{absolute}", "class 0/../../private/passport.png"])
    def test_the_page_shows_none_of_them(self, photos, name):
        (photos / "private").mkdir()
        Image.new("RGB", (8, 8), (1, 254, 77)).save(photos / "private" / "passport.png")
        name = name.format(absolute=photos / "private" / "passport.png")
        rewrite(photos / "run" / "scores.parquet", sample_id=lambda known: name)
        page = report(out=photos / "run").path.read_text()
        assert SHOWN not in page and re.search(r"\bno images\b", page)

    def test_the_page_shows_no_image_of_data_that_are_not_the_scores(self, photos):
        before = report(out=photos / "run").path.read_text()
        assert before.count(SHOWN) > 4
        Image.new("RGB", (9, 9)).resize((90, 90)).save(photos / "photos" / "class 0" / "00.png")
        assert SHOWN not in report(out=photos / "run").path.read_text()
        rewrite(photos / "run" / "scores.parquet", lambda facts: {**facts, "fingerprint": ""})
        assert SHOWN not in report(out=photos / "run").path.read_text()

    @pytest.mark.parametrize(
        "data", ["hf:evil/x", "hf:{folder}", "mnist:/nowhere", "https://evil.example/x.npz", "digits"]
    )
    def test_the_page_asks_nobody(self, photos, no_network, data):
        (photos / "hub").mkdir()
        (photos / "hub" / "README.md").write_text("---\nconfigs:\n- data_files: https://evil.example/x.parquet\n---\n")
        edit(photos / "run" / "run.json", given={"data": data.format(folder=photos / "hub")})
        assert SHOWN not in report(out=photos / "run").path.read_text()
        assert no_network == []

    def test_an_export_of_arrays_asks_nobody(self, photos, no_network):
        edit(photos / "run" / "run.json", given={"data": "hf:evil/x"})
        with pytest.raises(UsageError, match=r"^data\b.*--data"):
            export(photos / "run" / "coreset.parquet", format="folder", out=photos / "kept")
        assert no_network == []

    @pytest.mark.parametrize("listed", [False, True])
    @pytest.mark.parametrize("copy", [False, True])
    def test_an_export_hands_on_images_alone(self, photos, listed, copy):
        """A key that is called as an image, and has its size: neither copied nor linked."""
        (photos / "id_rsa").write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----".ljust(68))
        coreset = photos / "run" / "coreset.parquet"
        data = photos / "photos"
        names = pq.read_table(coreset)["sample_id"].to_pylist()
        kept = next(n for n, k in zip(names, pq.read_table(coreset)["keep"].to_pylist(), strict=True) if k)
        if listed:
            data = photos / "list.csv"
            rows = [f"photos/{name},{name.split('/')[0]}" for name in names]
            data.write_text("filepath,label\n" + "\n".join(rows) + "\n")
            rewrite(
                coreset,
                lambda facts: {k: v for k, v in facts.items() if k != "fingerprint"},
                sample_id=lambda name: f"{photos}/id_rsa" if name == kept else f"photos/{name}",
            )
        else:
            (data / kept).unlink()
            (data / kept).symlink_to(photos / "id_rsa")
            rewrite(coreset, lambda facts: {k: v for k, v in facts.items() if k != "fingerprint"})
        with pytest.raises(UsageError, match=r"^data: .*\bimage\b"):
            export(coreset, format="folder", data=str(data), copy=copy, out=photos / "kept")
        assert not (photos / "kept").exists()


class TestTheTerminal:
    @pytest.fixture
    def hostile(self, tmp_path):
        for k in range(24):
            place = tmp_path / "photos" / f"{'=cat' if k % 2 else '@dog'}{ESCAPE}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 10 * k, np.uint8)).save(place / f"{k}{ESCAPE}.png")
        (tmp_path / "inbox").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "inbox" / f"-a{ESCAPE}.png")
        (tmp_path / "inbox" / f"-b{ESCAPE}.png").write_bytes(b"broken")
        return tmp_path

    def test_no_name_steers_it(self, hostile, cli):
        data = ["--data", hostile / "photos", "--image-size", 8]
        commands = [
            ["score", *data, "--model", "digits-cnn", "--epochs", 1, "--out", hostile / "run"],
            [
                "select",
                "--scores",
                hostile / "run" / "scores.parquet",
                "--fraction",
                0.05,
                "--out",
                hostile / "run" / "coreset.parquet",
            ],
            ["audit", *data, "--scores", hostile / "run", "--epochs", 1, "--out", hostile / "audit"],
            ["predict", "--data", hostile / "inbox", "--weights", hostile / "run", "--out", hostile / "labels"],
            [
                "export",
                hostile / "run" / "coreset.parquet",
                "--format",
                "folder",
                "--data",
                hostile / "photos",
                "--out",
                hostile / "kept",
            ],
            ["report", "--out", hostile / "run"],
            ["train", "--data", hostile / "photos" / f"no{ESCAPE}", "--updates", 1, "--out", hostile / "x"],
            [f"no{ESCAPE}"],
        ]
        for command in commands:
            ran = cli(*command)
            assert "\x1b" not in ran.out + ran.err and "\x07" not in ran.out + ran.err, command
            assert ran.code == (2 if command in commands[-2:] else 0), ran.err

    def test_no_text_is_a_formula(self, hostile, cli):
        score(data=str(hostile / "photos"), image_size=8, model="digits-cnn", epochs=1, out=hostile / "run")
        source = hostile / "run" / "scores.parquet"
        rewrite(source, sample_id=lambda name: f"+{name}")

        def cells(*more, name="a"):
            assert cli("export", source, "--format", "csv", "--out", hostile / f"{name}.csv", *more).code == 0
            with open(hostile / f"{name}.csv", newline="") as opened:
                return list(csv.DictReader(opened))

        escaped = cells()
        raw = cells("--raw", name="b")
        assert {row["label_name"][0] for row in escaped} == {"'"} and {row["sample_id"][0] for row in escaped} == {"'"}
        assert {row["label_name"][0] for row in raw} == {"=", "@"} and {row["sample_id"][0] for row in raw} == {"+"}
        assert any(row["aum"].startswith("-") for row in escaped)  # a number is none
        predict = ["predict", "--data", hostile / "inbox", "--weights", hostile / "run"]
        assert (
            cli(*predict, "--out", hostile / "l").code == 0 and cli(*predict, "--raw", "--out", hostile / "m").code == 0
        )
        with (
            open(hostile / "l" / "labels.csv", newline="") as one,
            open(hostile / "m" / "labels.csv", newline="") as two,
        ):
            marked = list(csv.DictReader(one))
            plain = list(csv.DictReader(two))
        assert [row["sample_id"] for row in marked] == [f"'{row['sample_id']}" for row in plain]


class _Call:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


class _Forged:
    """An array, or a dtype, whose state somebody wrote."""

    def __init__(self, made, state):
        self.made = made
        self.state = state

    def __reduce__(self):
        return (*self.made, self.state)


def hostile_pickles():
    reconstruct = np.zeros(1).__reduce__()[0]
    whole = (reconstruct, (np.ndarray, (0,), b"b"))
    yield "an array of pointers", _Call(np.ndarray, (1,), np.dtype("O"), b"A" * 8)
    yield "a state of objects", _Forged(whole, (1, (1,), np.dtype("O"), False, [b"x"]))
    yield "pointers as bytes", _Forged(whole, (1, (1,), np.dtype("O"), False, b"A" * 8))
    dtype = (np.dtype, ("u1", False, True))
    fields = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 16)
    yield "a forged dtype", _Forged(whole, (1, (1,), _Forged(dtype, fields), False, b"A" * 8))
    yield "a view of objects", _Forged(whole, (1, (1,), _Call(np.dtype, "O"), False, b"A" * 8))
    yield "a subclass", _Call(reconstruct, _Call(np.dtype, "u1"), (0,), b"b")
    yield "too few bytes", _Forged(whole, (1, (10**12,), np.dtype("u1"), False, b"A" * 8))


@pytest.mark.parametrize("key", [b"data", b"labels"])
def test_a_batch_chooses_no_pointers(tmp_path, key):
    """In a process of its own, which such files once ended."""
    from support.sources import write_cifar

    opened: list[str] = []
    for what, value in hostile_pickles():
        batch = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10)), key: value}
        content = pickle.dumps(batch, protocol=2)
        place = tmp_path / what
        place.mkdir()
        opened.append(
            write_cifar(place, lambda folder, content=content: (folder / "data_batch_2").write_bytes(content))
        )
    code = (
        "import sys, easycoreset as e\nfor data in sys.argv[1:]:\n  try: e.open_source(data)\n"
        "  except e.UsageError as error: print(error, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, *opened], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(opened) and all("CIFAR" in line for line in lines), done


def test_a_batch_takes_no_memory_by_a_number_in_it(tmp_path):
    from support.sources import write_cifar

    memo = b"\x80\x02}r" + (2**31 - 1).to_bytes(4, "little") + b"."  # the C unpickler makes room for so many
    data = write_cifar(tmp_path, lambda folder: (folder / "data_batch_2").write_bytes(memo))
    with limited(), pytest.raises(UsageError, match="CIFAR"):
        open_source(data)


class limited:
    """Two GB beyond what the process has now."""

    def __enter__(self):
        status = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) for line in status if line.startswith("VmSize:")) * 1024
        self.before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 2**30, self.before[1]))

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_AS, self.before)


class TestSizes:
    def test_an_idx_file_is_unpacked_as_far_as_it_declares(self, tmp_path):
        raw = tmp_path / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        with gzip.open(raw / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as opened:
            opened.write(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4) for n in (10, 28, 28)))
            for _ in range(80):
                opened.write(bytes(2**25))  # 2.5 GB in all
        with limited(), pytest.raises(UsageError, match=r"train-images-idx3-ubyte.*\bIDX\b"):
            open_source(f"fashion-mnist:{tmp_path}")
        header = bytes([0, 0, 8, 3]) + b"\xff" * 12
        (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))
        with limited(), pytest.raises(UsageError, match=r"train-images-idx3-ubyte.*\bIDX\b"):
            open_source(f"fashion-mnist:{tmp_path}")

    @pytest.mark.parametrize("shape", [(10**12,), (2**62, 2**62), (70_000, 28, 28), (1,)])
    def test_arrays_are_as_large_as_they_say(self, tmp_path, shape):
        file = tmp_path / "a.npz"
        np.savez_compressed(file, x=np.zeros((50, 8, 8), np.uint8), y=np.arange(50) % 5)
        head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as whole:
            whole.writestr("x.npy", b"\x93NUMPY\x01\x00v\x00" + head + bytes(1000))
            whole.writestr("y.npy", zipfile.ZipFile(file).read("y.npy"))
        with limited(), pytest.raises(UsageError, match=r"b\.npz.*\.npz file"):
            open_source(str(tmp_path / "b.npz"))

    def test_arrays_for_which_there_is_no_room_are_not_begun(self, tmp_path, monkeypatch):
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros((50, 800, 800), np.uint8), y=np.arange(50) % 5)
        monkeypatch.setattr("easycoreset.arrays.free_memory", lambda: 60_000_000)
        with pytest.raises(UsageError, match=r"x\.npy.*\b0\.0 GB\b"):
            open_source(str(tmp_path / "a.npz"))

    @pytest.mark.parametrize("dtype", ["O", "V8", "M8[s]"])
    def test_arrays_of_anything_but_numbers_are_refused(self, tmp_path, dtype):
        x = np.array([None] * 9, object) if dtype == "O" else np.zeros(9, dtype)
        np.savez(tmp_path / "a.npz", x=x, y=np.arange(9) % 3)
        with pytest.raises(UsageError, match=rf"a\.npz.*\barray\b.*{re.escape(dtype)}"):
            open_source(str(tmp_path / "a.npz"))


LONG = {
    "aliases": "lr: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{name}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for name, old, new in zip(
            ("momentum", "weight_decay", "model", "init", "objective", "eps", "augment"),
            "abcdefg",
            "bcdefgh",
            strict=True,
        )
    ),
    "merges": "lr: &a {x: 1}\nmodel: &b {<<: [*a,*a,*a]}\ninit: {<<: [*b,*b]}\n",
    "no date": "lr: 2020-13-45\n",
    "no integer": "lr: !!int ''\n",
    "digits": f"lr: {'9' * 6000}\n",
    "brackets": f"lr: {'[' * 1000}{']' * 1000}\n",
    "keys": "".join(f"k{n}: 1\n" for n in range(20_000)),
    "an object": "lr: !!python/object/apply:os.system ['touch owned']\n",
    "a long value": f"lr: {'x' * 5000}\n",
    "a long key": f"{'x' * 3000}: 1\n",
    "binary": "lr: !!binary 'not base64'\n",
    "a set": "? [1, 2]\n: 3\n",
    "nested": f"lr: {{a: {[['x' * 300] * 300]}}}\n",
}


@pytest.mark.parametrize("what", LONG)
def test_options_that_are_no_options_end_in_one_short_line(cli, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    Path("options.yaml").write_text(LONG[what])
    ran = cli("train", "--config", "options.yaml", "--data", "digits", "--updates", 1, "--out", "out")
    assert ran.code == 2 and ran.err.count("\n") == 1 and len(ran.err) < 400 and "a bug" not in ran.err, ran.err
    assert sorted(os.listdir()) == ["options.yaml"]


def test_no_value_is_quoted_at_length(tmp_path):
    for options in (
        {"lr": "x" * 1000},
        {"model": "x" * 1000},
        {"objective": "x" * 1000},
        {"data": "x" * 3000},
        {"batch_size": 10**4000},
        {"batch_size": [["x" * 50] * 99] * 99},
        {"seed": -(10**4000)},
        {"objective": f"trades:{'y' * 900}=1"},
        {"objective": f"trades:beta={'y' * 900}"},
        {"model": f"{'a' * 300}.b:{'c' * 900}"},
        {"lr": 10**400},
    ):
        with pytest.raises(UsageError) as caught:
            train(**{"data": "digits", "updates": 1, "out": tmp_path / "out"} | options)
        assert len(str(caught.value)) < 4 * MAX_MESSAGE, options
    assert not (tmp_path / "out").exists()


def test_a_long_yaml_is_read():
    assert len(read_yaml("".join(f"k{n}: 1\n" for n in range(5000)), "keys")) == 5000


class TestDamaged:
    """Each file of a kind is named, with what is wrong, on one line."""

    @pytest.fixture
    def trained(self, tmp_path, scored):
        train(data="digits", model="digits-cnn", updates=1, out=tmp_path / "run")
        return tmp_path / "run"

    @pytest.mark.parametrize(
        "line",
        ["{", "[]", '{"epoch": 1}', '{"epoch": "1", "loss": 2}', '{"loss": 1}', '{"epoch": 1, "loss": "x"}', b"\xff"],
    )
    def test_history(self, trained, line):
        with open(trained / "history.jsonl", "ab") as opened:
            opened.write(line if isinstance(line, bytes) else f"{line}\n".encode())
        self.check_one_line(trained, "history.jsonl")

    @pytest.mark.parametrize(
        "change", [{"summary": 3}, {"summary": {}}, {"summary": {"clean": 1}}, {"given": []}, {"options": 1}]
    )
    @pytest.mark.parametrize("name", ["run.json", "evaluation.json"])
    def test_records(self, trained, name, change):
        if name == "evaluation.json" and "given" in change:
            return  # an evaluation has none
        (trained / name).write_text(json.dumps({"schema_version": 1, "command": "audit", **change}))
        if name == "run.json":
            table = pa.table(
                {
                    "index": [0],
                    "sample_id": ["a"],
                    "label": [0],
                    "label_name": ["a"],
                    "pred_name": ["a"],
                    "probability": [0.5],
                    "rank_in_class": [0],
                    "suspicion": [0.1],
                    "likely_mislabelled": [True],
                    "duplicate_of": pa.array([None], pa.int64()),
                    "in_test": [False],
                }
            )
            pq.write_table(table, trained / "audit.parquet")
        self.check_one_line(trained, name)

    @staticmethod
    def check_one_line(folder, name):
        with pytest.raises(UsageError, match=name) as caught:
            report(out=folder)
        assert "\n" not in str(caught.value) and not (folder / "report.html").exists()

    @pytest.mark.parametrize(
        "change",
        [
            {"std": [0]},
            {"std": [-1]},
            {"shape": [1, -8, 8]},
            {"shape": [1, 8]},
            {"shape": "188"},
            {"mean": ["a"]},
            {"mean": [None]},
            {"class_names": 3},
            {"class_names": []},
            {"model": 3},
            {"eps": "x"},
            {"provenance": []},
            {"shape": [1, 10**9, 10**9]},
        ],
    )
    def test_model_cards(self, trained, change):
        edit(trained / "model.json", **change)
        with pytest.raises(UsageError, match=r"model\.json"):
            load_model(trained)

    @pytest.mark.parametrize(
        "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}"]
    )
    def test_features(self, featured_scores, content):
        (featured_scores.parent / "features.npy").write_bytes(content)
        assert named(Scores.read(featured_scores).features_problem, "features.npy", "array")
        for record in ("{}", '{"kinds": []}', '{"kinds": {"clean": 3}}', '{"kinds": {"clean": {}}, "bias": "no"}'):
            (featured_scores.parent / "features.json").write_text(record)
            assert "features.json" in Scores.read(featured_scores).features_problem

    @pytest.fixture
    def featured_scores(self, tmp_path, scored):
        folder = shutil.copytree(scored, tmp_path / "featured")
        (folder / "features.json").write_text('{"kinds": {"clean": {}}}')
        np.save(folder / "probabilities.npy", np.zeros((1438, 10), np.float32))
        return folder / "scores.parquet"

    def test_tables(self, scored, tmp_path):
        table = pq.read_table(scored / "scores.parquet")
        twice = pa.Table.from_arrays([*table.columns, table["aign"]], [*table.column_names, "aign"])
        deep = table.replace_schema_metadata({"easycoreset": "[" * 100_000})
        odd = table.replace_schema_metadata({"easycoreset": '{"class_names": 3}'})
        shape = table.replace_schema_metadata({"easycoreset": '{"shape": "x", "split": ["train"]}'})
        for place, wrong in enumerate((twice, deep, odd, shape)):
            pq.write_table(wrong, tmp_path / f"{place}.parquet")
            with pytest.raises(UsageError, match=rf"{place}\.parquet") as caught:
                Scores.read(tmp_path / f"{place}.parquet")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("spoil", ["no zip", "cut off", "no array"])
    def test_arrays(self, tmp_path, spoil):
        file = tmp_path / "a.npz"
        np.savez(file, x=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) % 4)
        if spoil == "no zip":
            file.write_bytes(b"PK no zip")
        elif spoil == "cut off":
            file.write_bytes(file.read_bytes()[:-300])
        else:
            with zipfile.ZipFile(file, "w") as whole:
                whole.writestr("x.npy", "no array")
        train(data="digits", model="digits-cnn", updates=1, out=tmp_path / "run")
        from easycoreset import predict

        for read in (
            lambda: open_source(str(file)),
            lambda: predict(data=str(file), weights=tmp_path / "run", out=tmp_path / "o"),
        ):
            with pytest.raises(UsageError, match=r"a\.npz") as caught:
                read()
            assert "\n" not in str(caught.value)

    def test_weights_that_are_larger_than_their_file(self, trained):
        save_file({"a": np.zeros(3, np.float32)}, trained / "model.safetensors")
        content = (trained / "model.safetensors").read_bytes()
        for spoilt in (content.replace(b"[0,12]", b"[0,99]"), b"\xff" * 8 + content[8:], content[:20]):
            (trained / "model.safetensors").write_bytes(spoilt)
            with limited(), pytest.raises(UsageError, match=r"model\.safetensors"):
                load_model(trained)
