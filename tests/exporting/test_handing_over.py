"""Scores and coresets in others' forms, each opened by its own library; cards hold what the files say."""

import errno
import json
import os
import re
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easycoreset import Coreset, Scores, UsageError, audit, evaluate, export, open_source, select, train
from easycoreset.console import format_percent
from easycoreset.options.exporting import FORMATS
from support.messages import FEW_SAMPLES, named

pytestmark = pytest.mark.filterwarnings(FEW_SAMPLES)
NAMES = ['a "quoted", name.png', "new\nline.png", "猫 ünï'c.png", "=1+1 `x`|<b>.png"]


@pytest.fixture
def half(scored, tmp_path):
    """The easier half of digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        select(scores=scored / "scores.parquet", fraction=0.5, out=tmp_path / "half.parquet")
    return tmp_path / "half.parquet"


@pytest.fixture
def odd(tmp_path):
    """An image folder with names that shells and tables stumble over, its scores, and a coreset of every other one."""
    root = tmp_path / "data set"
    for label, folder in enumerate(("cat", 'd"o\ng')):
        (root / "train" / folder).mkdir(parents=True)
        for k, name in enumerate(NAMES):
            Image.new("RGB", (8, 8), (40 * k, 90 * label, 7)).save(root / "train" / folder / name)
    (root / "test").mkdir()
    (root / "test" / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(root / "test" / "cat" / "a.png")
    split = open_source(str(root), image_size=8).splits["train"]
    loss = np.array([0.0, 1.0, 2.0, np.nan, 4.0, 5.0, 6.0, 7.0], np.float32)
    about = {"fingerprint": split.fingerprint, "split": "train", "data": root.name}
    scores = Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=["cat", 'd"o\ng'],
        n_obs=np.isfinite(loss).astype(np.int32),
        columns={"loss": loss},
        provenance=about,
    )
    scores.write(tmp_path / "scores.parquet")
    Coreset.from_order(np.array([6, 0, 2]), scores).write(tmp_path / "odd.parquet")
    return root, tmp_path / "odd.parquet", scores


def listing(folder):
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != "export.json"
    )


def test_forms_are_named_in_one_way(cli):
    ran = cli("export", "--list", "--json")
    assert ran.code == 0 and [row["name"] for row in ran.json["format"]] == list(FORMATS)
    assert all(row["is"].endswith(".") for row in ran.json["format"])


class TestTables:
    def test_csv_opens_in_pandas(self, scored, half, tmp_path, cli):
        ran = cli("export", scored / "scores.parquet", "--format", "csv", "--out", tmp_path / "s.csv", "--json")
        assert ran.code == 0 and ran.json["file"] == str(tmp_path / "s.csv")
        scores = Scores.read(scored / "scores.parquet")
        table = pd.read_csv(tmp_path / "s.csv")
        assert list(table.columns) == scores.to_table().column_names and table["sample_id"].tolist() == list(
            scores.sample_ids
        )
        for name, values in scores.columns.items():
            np.testing.assert_array_equal(table[name].to_numpy(np.float32), values)
        export(half, format="csv", out=tmp_path / "c.csv")
        coreset = Coreset.read(half)
        table = pd.read_csv(tmp_path / "c.csv")
        np.testing.assert_array_equal(table["keep"], coreset.keep)
        np.testing.assert_array_equal(table["rank"].fillna(-1), coreset.rank)
        np.testing.assert_array_equal(table["aign"].to_numpy(np.float32), scores["aign"])

    def test_csv_of_a_coreset_alone_and_of_odd_names(self, odd, tmp_path):
        _, file, scores = odd
        export(file, format="csv", out=tmp_path / "both.csv")
        table = pd.read_csv(tmp_path / "both.csv", lineterminator="\n", keep_default_na=False)
        assert table["sample_id"].tolist() == list(scores.sample_ids) and table["label_name"].tolist()[-1] == 'd"o\ng'
        (tmp_path / "scores.parquet").unlink()
        export(file, format="csv", out=tmp_path / "alone.csv")
        assert list(pd.read_csv(tmp_path / "alone.csv")) == ["index", "sample_id", "label", "keep", "rank", "weight"]

    def test_scores_that_are_given_must_be_of_the_same_data(self, odd, scored, half, tmp_path):
        _, file, _ = odd
        with pytest.raises(UsageError, match=r"scores .*\b1438\b.*\b8\b"):
            export(file, format="csv", scores=scored / "scores.parquet", out=tmp_path / "no.csv")
        with pytest.raises(UsageError, match=r"scores.*\bcoreset\b.*scores\.parquet"):
            export(scored, format="csv", scores=scored / "scores.parquet", out=tmp_path / "no.csv")
        assert not (tmp_path / "no.csv").exists()
        (tmp_path / "scores.parquet").write_bytes(b"broken")
        export(file, format="csv", out=tmp_path / "alone.csv")
        assert "loss" not in pd.read_csv(tmp_path / "alone.csv")

    def test_index_lists_in_order_of_choice(self, odd, half, scored, tmp_path):
        export(odd[1], format="index", out=tmp_path / "i.txt")
        assert np.loadtxt(tmp_path / "i.txt", dtype=int).tolist() == [6, 0, 2]
        export(odd[1], format="index", out=tmp_path / "i.npz")
        with np.load(tmp_path / "i.npz") as found:
            assert found["index"].tolist() == [6, 0, 2] and found["weight"].tolist() == [1, 1, 1]
            assert found["sample_id"].tolist() == [odd[2].sample_ids[row] for row in (6, 0, 2)]
        for name in ("h.txt", "h.npz"):
            export(half, format="index", out=tmp_path / name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                back = select(
                    scores=scored / "scores.parquet",
                    method=f"file:{tmp_path / name}",
                    fraction=0.5,
                    out=tmp_path / "back.parquet",
                )
            np.testing.assert_array_equal(back.rank, Coreset.read(half).rank)


class TestFolder:
    def test_links_and_copies_of_an_image_folder(self, odd, tmp_path, cli):
        root, file, scores = odd
        kept = sorted(scores.sample_ids[row] for row in (0, 2, 6))
        ran = cli("export", file, "--format", "folder", "--data", root, "--out", tmp_path / "links")
        assert ran.code == 0 and listing(tmp_path / "links") == kept
        assert all((tmp_path / "links" / name).is_symlink() for name in kept)
        assert all((tmp_path / "links" / name).read_bytes() == (root / name).read_bytes() for name in kept)
        export(file, format="folder", data=str(root), copy=True, out=tmp_path / "copies")
        assert listing(tmp_path / "copies") == kept and not (tmp_path / "copies" / kept[0]).is_symlink()
        found = open_source(str(tmp_path / "copies" / "train"), image_size=8)
        assert list(found.class_names) == ["cat", 'd"o\ng']
        assert json.loads((tmp_path / "copies" / "export.json").read_text())["kept"] == 3
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]

    def test_an_earlier_export_is_replaced_and_nothing_else(self, odd, tmp_path):
        root, file, scores = odd
        out = tmp_path / "kept"
        given = {"format": "folder", "data": str(root)}
        out.mkdir()
        export(file, **given, out=out)
        Coreset.from_order(np.array([5]), scores).write(file)
        with pytest.warns(match=r"\bclass cat\b"):
            export(file, **given, out=out)
        assert listing(out) == [scores.sample_ids[5]]
        (out / "train" / "mine.txt").write_text("x")
        with pytest.raises(UsageError, match=r"^out: .*\bfiles\b.*--out"):
            export(file, **given, out=out)
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "thesis.txt").write_text("x")
        with pytest.raises(UsageError, match=r"^out: .*foreign.*\bexport\b.*--out"):
            export(file, **given, out=foreign)
        (foreign / "export.json").write_text('{"command": "other"}')
        with pytest.raises(UsageError, match=r"^out: .*foreign.*\bexport\b.*--out"):
            export(file, **given, out=foreign)
        with pytest.raises(UsageError, match=r"^out .*thesis\.txt"):
            export(file, **given, out=foreign / "thesis.txt")
        assert (out / "train" / "mine.txt").exists() and (foreign / "thesis.txt").read_text() == "x"

    @pytest.mark.parametrize(
        "name",
        ["../secret.png", "/etc/a.png", "train/../../a.png", "a.png", "train//a.png", "train/./a.png", "x/\0.png"],
    )
    def test_ids_that_leave_the_folder(self, odd, tmp_path, name):
        root, file, scores = odd
        Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
        ids = [name, *scores.sample_ids[1:]]
        bad = Scores(sample_ids=ids, labels=scores.labels, class_names=["a", "b"], n_obs=scores.n_obs, columns={})
        Coreset.from_order(np.array([0]), bad).write(file)
        with pytest.raises(UsageError, match=f"sample ids.*{re.escape(repr(name))}"):
            export(file, format="folder", data=str(root), out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_data_that_are_not_the_coresets(self, odd, tmp_path):
        root, file, scores = odd
        given = {"format": "folder", "out": tmp_path / "out"}
        with pytest.raises(UsageError, match="^data.*--data"):
            export(file, **given)
        for out in (root / "kept", root, tmp_path):
            with pytest.raises(UsageError, match=r"^out .*\b(data|source) '"):
                export(file, format="folder", data=str(root), out=out)
        Image.new("RGB", (9, 9)).resize((80, 80)).save(root / scores.sample_ids[1])
        with pytest.raises(UsageError, match=r"^data: .*\bsizes\b.*fingerprint"):
            export(file, **given, data=str(root))
        (root / scores.sample_ids[1]).unlink()
        with pytest.raises(UsageError, match=r"^data: .*\b1 of 8\b"):
            export(file, **given, data=str(root))
        with pytest.raises(UsageError, match=r"coreset.*\b8\b.*\b1438\b"):
            export(file, **given, data="digits")
        with pytest.raises(UsageError, match="^data: .*gone"):
            export(file, **given, data=str(tmp_path / "gone"))
        assert not (tmp_path / "out").exists()

    def test_images_of_arrays_are_png_files(self, half, digits, tmp_path):
        known = Coreset.read(half)
        order = np.flatnonzero(known.labels < 9)[:60]
        keep = np.isin(np.arange(len(known.labels)), order)
        replace(known, keep=keep, rank=np.cumsum(keep) - 1, weight=np.ones(len(keep), np.float32)).write(
            tmp_path / "few.parquet"
        )
        with pytest.warns(match=r"\bclass 9\b"):
            export(tmp_path / "few.parquet", format="folder", out=tmp_path / "png")
        split = digits.splits["train"]
        assert listing(tmp_path / "png") == sorted(f"{split.labels[row]}/{row:04d}.png" for row in order)
        pixels = split.images.pixels[..., 0].numpy()
        pixels = pixels if pixels.dtype == np.uint8 else (pixels * 255).round().astype(np.uint8)
        for row in order:
            np.testing.assert_array_equal(
                np.asarray(Image.open(tmp_path / f"png/{split.labels[row]}/{row:04d}.png")), pixels[row]
            )
        with pytest.raises(UsageError, match=r"^copy .*\bdigits\b"):
            export(half, format="folder", copy=True, out=tmp_path / "no")

    def test_a_failure_leaves_the_earlier_export(self, odd, tmp_path, monkeypatch):
        root, file, _ = odd
        export(file, format="folder", data=str(root), out=tmp_path / "kept")
        before = listing(tmp_path / "kept")

        def full(*given):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.symlink", full)
        with pytest.raises(RuntimeError, match=os.strerror(errno.ENOSPC)):
            export(file, format="folder", data=str(root), out=tmp_path / "kept")
        assert listing(tmp_path / "kept") == before
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_columns_for_hugging_face(half, scored, digits, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    export(half, format="hf", out=tmp_path / "columns")
    columns = datasets.load_from_disk(str(tmp_path / "columns"))
    coreset = Coreset.read(half)
    scores = Scores.read(scored / "scores.parquet")
    assert {"index", "sample_id", "label", "label_name", "aign", "keep", "rank", "weight"} <= set(columns.column_names)
    np.testing.assert_array_equal(np.array(columns["aign"], np.float32), scores["aign"])
    data = datasets.Dataset.from_dict(
        {"image": digits.splits["train"].images.pixels.flatten(1).tolist(), "label": scores.labels}
    )
    both = datasets.concatenate_datasets([data, columns.remove_columns("label")], axis=1)
    kept = coreset.apply(both)
    assert all(kept["keep"]) and len(kept) == len(coreset) and kept["label"] == scores.labels[coreset.keep].tolist()
    assert not datasets.are_progress_bars_disabled()
    export(half, format="hf", out=tmp_path / "columns")
    assert len(datasets.load_from_disk(str(tmp_path / "columns"))) == 1438
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"format hf.*pip install easycoreset\[hf\]"):
        export(half, format="hf", out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


class TestFiftyOne:
    def read(self, file):
        """FiftyOne's documented JSON: every field of every sample is declared, and null or of its kind."""
        found = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        kinds = {"StringField": str, "IntField": int, "FloatField": float, "BooleanField": bool}
        for sample in found["samples"]:
            assert set(sample) == {*found["sample_fields"], "metadata"}
            assert sample["ground_truth"]["_cls"] == "Classification" and isinstance(sample["tags"], list)
            for name, value in sample.items():
                kind = found["sample_fields"].get(name, "").removeprefix("fiftyone.core.fields.")
                assert value is None or kind not in kinds or type(value) is kinds[kind], (name, value)
        return found

    def test_an_image_folder(self, odd, tmp_path):
        root, file, scores = odd
        export(file, format="fiftyone", data=str(root), out=tmp_path / "f.json")
        found = self.read(tmp_path / "f.json")
        assert [s["filepath"] for s in found["samples"]] == [str(root / name) for name in scores.sample_ids]
        assert [s["tags"] for s in found["samples"]][:3] == [["kept"], ["dropped"], ["kept"]]
        assert found["samples"][3]["loss"] is None and found["samples"][6]["rank"] == 0
        assert found["samples"][7]["ground_truth"]["label"] == 'd"o\ng'
        export(file, format="fiftyone", out=tmp_path / "g.json")
        assert self.read(tmp_path / "g.json")["samples"][0]["filepath"] == scores.sample_ids[0]
        with pytest.raises(UsageError, match=r"^data: .*\b8 of 8\b"):
            export(file, format="fiftyone", data=str(tmp_path / "gone"), out=tmp_path / "no.json")

    def test_arrays_are_named_as_the_folder_names_them(self, half, tmp_path):
        export(half, format="fiftyone", out=tmp_path / "f.json")
        export(half, format="folder", out=tmp_path / "png")
        found = self.read(tmp_path / "f.json")["samples"]
        assert sorted(s["filepath"] for s in found if s["keep"]) == listing(tmp_path / "png")

    @pytest.mark.filterwarnings("ignore")  # of the library's own
    def test_fiftyone_itself_reads_it(self, odd, tmp_path):
        fiftyone = pytest.importorskip("fiftyone")
        odm = pytest.importorskip("fiftyone.core.odm")
        export(odd[1], format="fiftyone", data=str(odd[0]), out=tmp_path / "f.json")
        found = json.loads((tmp_path / "f.json").read_text())
        for name, kind in found["sample_fields"].items():
            assert odm.get_field_kwargs(kind)["ftype"] and odm.validate_field_name(name) is None
        samples = [fiftyone.Sample.from_dict(sample) for sample in found["samples"]]
        assert samples[6]["rank"] == 0 and samples[0].ground_truth.label == "cat"


class TestCleanlab:
    def test_quality_is_the_mean_probability_of_the_label(self, odd, tmp_path):
        export(tmp_path, format="cleanlab", out=tmp_path / "issues.csv")
        table = pd.read_csv(tmp_path / "issues.csv", lineterminator="\n")
        np.testing.assert_allclose(table["label_quality"], np.exp(-odd[2]["loss"].astype(float)))
        assert table["is_label_issue"].tolist() == [False, True, True, False, True, True, True, True]  # below 1/2
        assert table["label_score"].equals(table["label_quality"]) and "predicted_label" not in table

    @pytest.mark.filterwarnings("ignore")  # of the library's own
    def test_cleanlab_takes_it(self, scored, digits, tmp_path):
        filters = pytest.importorskip("cleanlab.classification")
        rank = pytest.importorskip("cleanlab.rank")
        scores = Scores.read(scored / "scores.parquet")
        del scores.columns["loss"]
        folder = tmp_path / "s"
        folder.mkdir()
        for name in ("run.json",):
            (folder / name).write_bytes((scored / name).read_bytes())
        scores.write(folder / "scores.parquet")
        with pytest.raises(UsageError, match=r"cleanlab.*\bloss\b.*--save-features"):
            export(folder, format="cleanlab", out=tmp_path / "no.csv")
        from easycoreset.exporting.cleanlab import find_score_issues

        known = np.random.default_rng(0).dirichlet(np.ones(10), len(scores)).astype(np.float32)
        object.__setattr__(scores, "probabilities", known)
        table = find_score_issues(scores).to_pandas()
        np.testing.assert_allclose(
            table["label_quality"], rank.get_label_quality_scores(scores.labels, known), rtol=1e-5
        )
        assert (table["predicted_label"] == known.argmax(1)).all()
        assert (table["predicted_label"] != table["given_label"])[table["is_label_issue"]].all()
        from sklearn.naive_bayes import GaussianNB

        x = digits.splits["train"].images.pixels.flatten(1).numpy()
        learning = filters.CleanLearning(GaussianNB(), verbose=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learning.fit(x, scores.labels, label_issues=table)
        assert learning.get_label_issues()["is_label_issue"].sum() == table["is_label_issue"].sum() > 0

    def test_an_audit_speaks_for_itself(self, scored, tmp_path):
        import pyarrow.parquet as pq

        found = audit(data="digits", scores=scored, judge="epochs", out=tmp_path / "a").table
        export(tmp_path / "a", format="cleanlab", out=tmp_path / "i.csv")
        table = pd.read_csv(tmp_path / "i.csv")
        for ours, theirs in (
            ("likely_mislabelled", "is_label_issue"),
            ("label", "given_label"),
            ("pred", "predicted_label"),
        ):
            assert table[theirs].tolist() == found[ours].to_pylist()
        np.testing.assert_allclose(table["label_quality"], found["self_confidence"].to_numpy(), rtol=1e-6)
        assert table["label_score"].between(0, 1).all()
        export(tmp_path / "a" / "audit.parquet", format="csv", out=tmp_path / "a.csv")
        assert list(pd.read_csv(tmp_path / "a.csv")) == found.column_names
        with pytest.raises(UsageError, match=r"source.*\baudit\b"):
            export(tmp_path / "a", format="hf", out=tmp_path / "no")
        pq.write_table(found.drop_columns(["pred"]), tmp_path / "audit.parquet")
        with pytest.raises(UsageError, match=r"source.*\bpred\b.*cleanlab"):
            export(tmp_path / "audit.parquet", format="cleanlab", out=tmp_path / "no.csv")


class TestCards:
    def test_of_a_coreset(self, half, scored, tmp_path):
        export(half, format="card", out=tmp_path / "card.md")
        text = (tmp_path / "card.md").read_text()
        coreset = Coreset.read(half)
        scores = Scores.read(scored / "scores.parquet")
        assert text.startswith("# Data card: ") and named(text.splitlines()[0], "719", "1438", "digits")
        before, after = coreset.class_counts()
        for k in range(10):
            assert f"| {k} | {before[k]} | {after[k]} | {format_percent(after[k] / before[k])} |" in text
        middle = np.median(scores["aign"][~coreset.keep].astype(float))
        (line,) = [line for line in text.splitlines() if line.startswith("| aign | dropped |")]
        assert line.split(" | ")[4] == f"{middle:.4g}"
        assert coreset.provenance["fingerprint"] in text and "--fraction 0.5" in text and "| fraction | 0.5 |" in text

    def test_odd_names_and_no_scores(self, odd, tmp_path):
        _, file, scores = odd
        export(file, format="card", out=tmp_path / "card.md")
        text = (tmp_path / "card.md").read_text()
        assert '| d"o g | 4 | 1 | 25% |' in text and "| loss | dropped | 1 | 3.25 | 4.5 | 5.5 | 7 | 1 |" in text
        (tmp_path / "scores.parquet").unlink()
        names = ["<b>|x", "`y`"]
        plain = Scores(
            sample_ids=scores.sample_ids, labels=scores.labels, class_names=names, n_obs=scores.n_obs, columns={}
        )
        Coreset.from_order(np.array([0]), plain, np.array([2.0], np.float32)).write(file)
        export(file, format="card", out=tmp_path / "again.md")
        text = (tmp_path / "again.md").read_text()
        assert r"| &lt;b>\|x | 4 | 1 | 25% |" in text and named(text, "No sample", r"class \`y\`")
        assert "| loss |" not in text and "| fraction |" not in text

    def test_of_a_model_and_of_an_evaluation(self, half, tmp_path):
        place = tmp_path / "model"
        train(data="digits", coreset=str(half), updates=5, objective="trades:steps=1", eps=0.1, out=place)
        export(place, format="card", out=tmp_path / "card.md")
        text = (tmp_path / "card.md").read_text()
        assert "not known" in text and "Wilson" not in text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = {"data": "digits", "weights": place, "attack": "pgd:steps=2", "eps": [0.1], "limit": 40}
            result = evaluate(**given, out=place)
            evaluate(**given, out=tmp_path / "apart")
        export(place, format="card", out=tmp_path / "again.md")
        text = (tmp_path / "again.md").read_text()
        summary = result.summary()
        for line in (summary["clean"], *summary["attacked"]):
            assert " | ".join(f"{100 * line[key]:.4g}" for key in ("accuracy", "low", "high")) in text
        assert all(
            said in text for said in ("digits-cnn", "| updates | 5 |", "trades:eps=0.1:steps=1", "| seed | 0 |", "719")
        )
        assert all(check.name.replace("_", r"\_") in text for check in result.checks if "<" not in check.name)
        export(tmp_path / "apart", format="card", out=tmp_path / "apart.md")
        text = (tmp_path / "apart.md").read_text()
        assert "trained" in text and "| updates |" not in text
        train(data="digits", updates=3, out=tmp_path / "other")
        (tmp_path / "other" / "evaluation.json").write_bytes((place / "evaluation.json").read_bytes())
        with pytest.raises(UsageError, match=r"evaluation\.json.*\bweights\b.*model\.safetensors"):
            export(tmp_path / "other", format="card", out=tmp_path / "no.md")
        assert not (tmp_path / "no.md").exists()


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("SCORES --format folder --out {}", "source.*coreset.*folder"),
        ("SCORES --format index --out {}.txt", "source.*coreset.*index"),
        ("SCORES --format card --out {}.md", "source.*coreset.*card"),
        ("HALF --format csv --out {}.csv --copy", "copy.*folder.*True.*csv"),
        (
            "HALF --format csv --out {}.csv --data digits",
            "data.*folder.*fiftyone.*'digits'.*csv",
        ),
        ("HALF --format index --out {}.csv", r"out.*\.txt.*\.npz.*\.csv'"),
        ("HALF --format robustbench --out {}.json", "source.*robustbench"),
        ("SCORED --format robustbench --out {}.json --model a:b", "model.*onnx.*'a:b'.*robustbench"),
        ("{} --format csv --out {}.csv", "source.*out'"),
        ("EMPTY --format csv --out {}.csv", r"source.*empty.*coreset\.parquet, scores\.parquet, audit\.parquet"),
        ("HALF --format cvs --out {}.csv", "'cvs'.*'csv'"),
        ("HALF --format hf --out HALF", r"\bout\b.*\bsource\b"),
        ("HALF --format hf --out SCORED", "out: .*run'.*--out"),
        ("SCORED/run.json --format csv --out {}.csv", r"run\.json.*\bParquet\b"),
        ("--format csv --out {}.csv", "--source is required"),
    ],
)
def test_wrong_use_writes_nothing(cli, scored, half, tmp_path, line, match):
    (tmp_path / "empty").mkdir()
    places = {"SCORES": scored / "scores.parquet", "SCORED": scored, "HALF": half, "EMPTY": tmp_path / "empty"}
    for name, place in places.items():
        line = line.replace(name, str(place))
    before = sorted(tmp_path.rglob("*"))
    ran = cli("export", *line.replace("{}", str(tmp_path / "out")).split())
    assert ran.code == 2 and re.search(match, ran.err, re.M) and ran.out == "", ran.err
    assert sorted(tmp_path.rglob("*")) == before
