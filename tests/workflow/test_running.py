"""`run`: from a folder of labelled images to a report, in one command that goes on where it stopped."""

import html
import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from easycoreset import Coreset, Evaluation, Scores, UsageError, audit, open_source, predict, report, run, train
from easycoreset import clean as clean_data
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.options import PipelineOptions
from easycoreset.training.budget import choose_batch, choose_side
from easycoreset.workflow.defaults import choose_defaults
from easycoreset.workflow.run_summary import compare_with_earlier, recommend
from support.decisions import decide
from support.messages import named


@pytest.fixture(scope="module")
def photos(tmp_path_factory, digits):
    """Digits as images of 32 pixels in class folders, 40 a class, 8 of them in a wrong one."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    split = digits.splits["train"]
    flipped = []
    for k in range(10):
        (folder / f"digit {k}").mkdir(parents=True)
    for k in range(10):
        for place, row in enumerate(np.flatnonzero(split.labels == k)[:40]):
            target = (k + 1) % 10 if place == 0 and k < 8 else k
            name = f"digit {target}/{row:04d}.png"
            Image.fromarray(split.images.pixels[row, ..., 0].numpy()).resize((32, 32)).save(folder / name)
            flipped += [name] if target != k else []
    return folder, flipped


def test_of_models_that_are_equal_without_an_attack_the_more_robust_one_is_recommended():
    index = np.arange(100)

    def evaluation(clean, *robust):
        def outcome(share, eps):
            return Outcome("pgd" if eps else "clean", "linf", eps, index, index * 0, index >= 100 * share)

        worst = [outcome(share, 0.01 * n) for n, share in enumerate(robust, 1)]
        return Evaluation(clean=outcome(clean, 0.0), attacked=[], worst=worst, checks=[])

    found = recommend({"random": evaluation(0.8, 0.5, 0.3), "all": evaluation(0.8, 0.6, 0.2)})
    assert found["clean"] == found["robust"] == "all" and found["eps"] == 0.01
    found = recommend({"random": evaluation(0.81, 0.5, 0.3), "all": evaluation(0.8, 0.6, 0.2)})
    assert (found["clean"], found["robust"]) == ("random", "all")
    assert found["gains"][1]["difference"] == pytest.approx(0.1)


OPTIONS = {"epochs": 2, "limit": 40, "attack": "fgsm", "eps": [2 / 255, 8 / 255]}


@pytest.mark.slow
def test_from_a_folder_to_a_report(photos, tmp_path, cli):
    folder, _ = photos
    flags = ["run", "--data", folder, "--epochs", 2, "--limit", 40, "--attack", "fgsm", "--eps", "2/255,8/255"]
    ran = cli(*flags, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    for said in (
        ("images", "32 pixels"),
        ("320 training", "80 test", "10 classes", "3x32x32", "thin-resnet"),
        ("step: scoring",),
        ("step: evaluating", "all samples"),
    ):
        assert named(ran.err, *said)
    assert ran.err.count("is held out") == 1  # each step reads the data, and notes are logged once
    found = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert [row["trained_on"] for row in found["rows"]] == ["coreset", "random", "all"]
    kept = {name: Coreset.read(tmp_path / "run" / f"{name}.parquet") for name in ("coreset", "random")}
    assert len(kept["coreset"]) == len(kept["random"]) == 160
    before, after = kept["coreset"].class_counts()
    assert (after * 2 >= before - 1).all()  # the same share of every class
    updates = [
        json.loads((tmp_path / "run" / name / "run.json").read_text())["summary"]["updates"]
        for name in ("model", "random", "scores")
    ]
    assert len(set(updates)) == 1
    page = (tmp_path / "run" / "report.html").read_text()
    outcomes = {}
    for name in ("coreset", "random", "all"):
        table = pq.read_table(tmp_path / "run" / "evaluation" / name / "predictions.parquet").to_pydict()
        outcomes[name] = [
            not broken for broken, attack in zip(table["broken"], table["attack"], strict=True) if attack == "clean"
        ]
    for name, gains in found["against"].items():
        pairs = list(zip(outcomes["coreset"], outcomes[name], strict=True))
        assert gains[0]["eps"] == 0 and gains[0]["difference"] == pytest.approx(sum(a - b for a, b in pairs) / 40)
        assert (
            gains[0]["low"] < gains[0]["difference"] < gains[0]["high"]
            and [g["eps"] for g in gains[1:]] == OPTIONS["eps"]
        )
    assert page.count(" points clean (") == 2 and "samples of each class" in page
    assert [row["after"] for row in found["classes"]] == after.tolist()
    for title in ("Effect of the coreset", "What was found", "Hardness", "Easiest and hardest", "Evaluation"):
        assert title in page
    pictures = (tmp_path / "run" / "audit" / "report.html").read_text()
    assert (
        'class="review"' in pictures
        and 'class="review"' not in page
        and pq.read_table(tmp_path / "run" / "audit" / "audit.parquet").num_rows == 320
    )
    chosen = found["recommended"]
    accuracy = {row["trained_on"]: (row["clean"]["accuracy"], row["worst"][0]["accuracy"]) for row in found["rows"]}
    assert accuracy[chosen["clean"]][0] == max(clean for clean, _ in accuracy.values())
    assert accuracy[chosen["robust"]][1] == max(robust for _, robust in accuracy.values())
    assert "rdinary pictures" in ran.out and "label" in ran.out and "--decisions decisions.json" in ran.out
    place = {"coreset": "model", "random": "random", "all": "all"}[chosen["clean"]]
    inbox = {"data": str(folder), "image_size": 32}
    whole = predict(**inbox, weights=tmp_path / "run", out=tmp_path / "labels")
    assert whole.equals(predict(**inbox, weights=tmp_path / "run" / place, out=tmp_path / "labels-of-one"))
    again = cli(*flags, "--out", tmp_path / "run")
    assert again.code == 0 and named(again.err, "nothing is missing", "9 steps") and "step: " not in again.err
    (tmp_path / "wrong.txt").write_text("1\n5\n")
    known = cli(*flags, "--wrong", tmp_path / "wrong.txt", "--out", tmp_path / "run")
    assert known.code == 0 and named(known.err, "1 of 9") and known.err.count("step: ") == 1  # another audit alone
    assert json.loads((tmp_path / "run" / "audit" / "run.json").read_text())["summary"]["noise"]["wrong"] == 2
    dry = cli(*flags, "--fraction", 0.3, "--dry-run", "--json", "--out", tmp_path / "run")
    assert dry.code == 0 and dry.json["kinds"] == {"select": 2, "train": 2, "evaluate": 2}
    other = cli(*flags, "--fraction", 0.3, "--out", tmp_path / "run")
    assert other.code == 0 and other.err.count("step: ") == 6  # the links now lead to the new coreset and models
    assert len(Coreset.read(tmp_path / "run" / "coreset.parquet")) == 96
    assert json.loads((tmp_path / "run" / "comparison.json").read_text())["fraction"] == 0.3


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch):
    from easycoreset import evaluation
    from easycoreset.data import digits as arrays

    original = evaluation.evaluate
    load = arrays.load_digits
    opened = []
    monkeypatch.setattr(arrays, "load_digits", lambda *place: opened.append(1) or load(*place))

    def cut_off(**more):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(data="digits", **OPTIONS, out=tmp_path / "run")
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").glob("steps/*/model.safetensors")}
    assert len(stamps) == 3
    monkeypatch.setattr(evaluation, "evaluate", original)
    found = run(data="digits", **OPTIONS, out=tmp_path / "run")
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps and len(found["rows"]) == 3
    assert len(opened) == 2  # once a start, whatever the number of steps


def test_the_command_that_it_prints_trains_the_same_model(tmp_path, cli):
    found = run(data="digits", **OPTIONS, method="easycore", objective="trades:steps=1", out=tmp_path / "run")
    name, *words = shlex.split(found["command"])
    assert name == "easycoreset" and words[0] == "train" and "--updates" in words and "--batch-size" in words
    words[words.index("--out") + 1] = str(tmp_path / "mine")
    ran = cli(*words)
    assert ran.code == 0, ran.err
    ours = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == ours
    assert found["command"] in html.unescape(
        (report(out=tmp_path / "run") and tmp_path / "run" / "report.html").read_text()
    )


FLAGS = ["run", "--data", "digits", "--epochs", 1, "--limit", 10, "--attack", "fgsm", "--eps", "0.1"]


def test_a_failed_step_and_something_in_the_way_are_told(tmp_path, cli):
    ran = cli(*FLAGS, "--method", "tests.support.factories:fails", "--no-per-class", "--out", tmp_path / "run")
    assert ran.code == 3 and named(ran.err, "3 of 9 steps", "choosing the coreset", "it does not work")
    assert (tmp_path / "run" / "random" / "model.safetensors").exists()  # the rest was done
    (tmp_path / "other" / "model").mkdir(parents=True)
    ran = cli(*FLAGS, "--out", tmp_path / "other")
    assert ran.code == 2 and named(ran.err, tmp_path / "other", "plan.json")
    assert cli(*FLAGS, "--out", tmp_path / "mine").code == 0
    (tmp_path / "mine" / "model").unlink()
    (tmp_path / "mine" / "model").write_text("mine")
    ran = cli(*FLAGS, "--fraction", 0.3, "--out", tmp_path / "mine")
    assert ran.code == 2 and named(ran.err, tmp_path / "mine" / "model", "in the way")
    assert (tmp_path / "mine" / "model").read_text() == "mine"


def test_the_time_may_be_up(tmp_path, cli):
    ran = cli(*FLAGS, "--minutes", "0.00001", "--out", tmp_path / "run")
    assert ran.code == 0 and named(ran.err, "time is up", "of 9 steps") and not ran.out
    assert cli(*FLAGS, "--out", tmp_path / "run").code == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fraction": 0}, r"^fraction.*\b0(\.0)?$"),
        ({"method": "easycor"}, "'easycor'.*'easycore'"),
        ({"objective": "trade"}, "'trade'.*'trades'"),
        ({"data": "nowhere"}, "^data: .*'nowhere'"),
        ({"epochs": 0}, "^epochs.* 0$"),
        ({"attack": "pgdd"}, "'pgdd'.*'pgd'"),
        ({"exclude": "none.txt"}, r"^exclude: file:none\.txt"),
        ({"wrong": "none.txt"}, r"^wrong: file:none\.txt"),
        ({"model": "resnet19"}, "'resnet19'.*'resnet18'"),
        (
            {"method": "herding", "model": "tests.support.factories:convolutional_head"},
            r"nn\.Linear.*--feature-layer",
        ),
    ],
)
def test_wrong_use(options, match, tmp_path):
    with pytest.raises(UsageError, match=match):
        run(**{"data": "digits", **OPTIONS, **options, "out": tmp_path / "x"})
    assert not (tmp_path / "x").exists()


def test_defaults_follow_the_data(photos, tmp_path):
    assert [choose_batch(n) for n in (10, 200, 2000, 10**6)] == [8, 8, 64, 128]
    assert choose_side(photos[0], "cpu") == 32
    (tmp_path / "a").mkdir()
    for size, side in ((300, 64), (70, 64), (20, 32)):
        Image.new("RGB", (size, size + 10)).save(tmp_path / "a" / "x.png")
        assert choose_side(tmp_path, "cpu") == side
    Image.new("RGB", (300, 300)).save(tmp_path / "a" / "x.png")
    assert choose_side(tmp_path, "cuda") == 224


@pytest.mark.slow
def test_it_starts_from_weights_and_leaves_unreadable_images_out(photos, tmp_path, scored):
    found = run(data="digits", init=str(scored), **OPTIONS, out=tmp_path / "tuned")
    assert found["model"] == "digits-cnn" and found["rows"][0]["clean"]["accuracy"] > 0.9
    broken(photos[0], tmp_path / "photos")
    with pytest.raises(UsageError, match="1 unreadable image"):
        run(data=str(tmp_path / "photos"), skip_unreadable=False, **OPTIONS, out=tmp_path / "x")
    run(data=str(tmp_path / "photos"), model="digits-cnn", **OPTIONS, out=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "audit" / "run.json").read_text())["summary"]
    assert len(summary["unreadable"]) == 1 and "broken.png" in summary["unreadable"][0]


def broken(folder, copy):
    import shutil

    shutil.copytree(folder, copy)
    (copy / "digit 3" / "broken.png").write_bytes(b"no picture")


@pytest.mark.slow
def test_an_audit_of_data_that_changed(photos, tmp_path):
    import shutil

    from easycoreset import audit, score

    folder = tmp_path / "photos"
    shutil.copytree(photos[0], folder)
    score(data=str(folder), model="digits-cnn", epochs=1, image_size=32, out=tmp_path / "scores")
    ids = pq.read_table(tmp_path / "scores" / "scores.parquet")["sample_id"].to_pylist()
    for name in ids[:3]:
        (folder / name).unlink()
    options = {"data": str(folder), "image_size": 32, "scores": tmp_path / "scores", "epochs": 1}
    with pytest.raises(UsageError, match=rf"\b{len(ids)}\b.*\b{len(ids) - 3}\b"):
        audit(**options, out=tmp_path / "x")
    table = audit(**options, allow_subset=True, out=tmp_path / "audit").table
    assert not set(ids[:3]) & set(table["sample_id"].to_pylist()) and table.num_rows > 300


@pytest.mark.slow
def test_a_method_gets_what_it_needs(tmp_path):
    options = OPTIONS | {"epochs": 1, "limit": 10}
    found = run(data="digits", method="herding", **options, out=tmp_path / "herding")
    assert found["method"] == "herding" and list((tmp_path / "herding").glob("steps/measure-*/features.npy"))
    run(data="digits", method="slocurves", **options, out=tmp_path / "slocurves")
    (measured,) = (tmp_path / "slocurves").glob("steps/measure-*/scores.parquet")
    assert "curvature" in pq.read_schema(measured).names


@pytest.mark.slow
def test_other_objectives_are_not_compared(tmp_path, cli):
    flags = [
        "--data",
        "digits",
        "--epochs",
        1,
        "--limit",
        10,
        "--attack",
        "fgsm",
        "--objective",
        "trades:eps=0.1:steps=1",
    ]
    ran = cli("run", *flags, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert re.search(r"\bby standard\b.*\bcompar", page) and "Against all samples" not in page


SMALL = {"epochs": 1, "limit": 40, "attack": "fgsm", "eps": [2 / 255]}


@pytest.mark.slow
def test_it_goes_on_from_the_scores_of_data_before_they_were_cleaned(photos, tmp_path, caplog):
    """By decisions, and by another folder whose pictures have other names: matched by content, retrained, compared."""
    folder, _ = photos
    out = tmp_path / "run"
    run(data=str(folder), **SMALL, out=out)
    before = Scores.read(out / "scores")
    digests = json.loads((out / "scores" / "model.json").read_text())["trained_on"]
    assert digests["in_order"] and digests["samples"] == 320
    other = [before.class_names[(before.labels[row] + 1) % 10] for row in range(20)]
    lines = [("train", row, True) for row in range(100, 110)] + [("train", row, other[row]) for row in range(20)]
    file, ids = decide(folder, *lines, ("test", 3, True), ("test", 4, other[0]))
    found = run(data=str(folder), **SMALL, decisions=file, out=out)
    steps = sorted(path.name.split("-")[0] for path in (out / "steps").iterdir())
    assert steps.count("score") == 1 and steps.count("carry") == 1 and steps.count("audit") == 2
    earlier = found["earlier"]
    assert {name: earlier[name] for name in ("matched", "gone", "new", "relabelled")} == {
        "matched": 310,
        "gone": 10,
        "new": 0,
        "relabelled": 20,
    }
    after = Scores.read(out / "scores")
    assert (after.n_obs == 0).sum() == 20 and np.isnan(after["aign"][after.n_obs == 0]).all()
    kept = {name: row for row, name in enumerate(before.sample_ids)}
    rows = [kept[name] for name in after.sample_ids]
    known = after.n_obs > 0
    assert (after["aign"][known] == before["aign"][rows][known]).all()
    assert {after.sample_ids[row] for row in np.flatnonzero(~known)} == set(ids[10:30])
    chosen = Coreset.read(out / "coreset.parquet")
    assert not chosen.keep[~known].any() and len(chosen.keep) == 310
    tables = {
        name: pq.read_table(out / "evaluation" / name / "predictions.parquet").to_pandas() for name in ("all", "before")
    }
    clean = {name: table[table["attack"] == "clean"] for name, table in tables.items()}
    assert list(clean["all"]["sample_id"]) == list(clean["before"]["sample_id"]) and ids[30] not in set(
        clean["all"]["sample_id"]
    )
    assert earlier["clean"]["before"] == pytest.approx(1 - clean["before"]["broken"].mean())
    assert earlier["clean"]["accuracy"] == pytest.approx(1 - clean["all"]["broken"].mean())
    assert earlier["clean"]["low"] < earlier["clean"]["difference"] < earlier["clean"]["high"]
    assert sum(line["samples"] for line in earlier["by_class"]) == 40
    for line in earlier["by_class"]:
        own = clean["all"]["label"] == list(before.class_names).index(line["class"])
        assert line["accuracy"] == pytest.approx(1 - clean["all"]["broken"][own].mean())
    page = (report(out=out) and out / "report.html").read_text()
    assert "Effect of changing the data" in page and "20 pictures with another label" in page
    stamps = {path: path.stat().st_mtime_ns for path in (out / "steps").iterdir()}
    assert run(data=str(folder), **SMALL, decisions=file, out=out)["earlier"] == earlier
    assert {path: path.stat().st_mtime_ns for path in (out / "steps").iterdir()} == stamps
    moved = clean_data(data=str(folder), decisions=file, out=tmp_path / "cleaned")
    again = run(data=str(moved), **SMALL, out=out)
    assert again["earlier"]["relabelled"] == 20 and again["earlier"]["gone"] == 10
    by_name = {name.split("/")[-1]: value for name, value in zip(after.sample_ids, after["aign"], strict=True)}
    now = Scores.read(out / "scores")
    assert all(name.startswith("train/") for name in now.sample_ids)
    values = [by_name[name.split("/")[-1]] for name in now.sample_ids]
    assert np.array_equal(now["aign"], np.array(values, np.float32), equal_nan=True)
    whole = run(data=str(folder), **SMALL, out=out)  # the data as they were: nothing is made anew
    assert "earlier" not in whole and len(list((out / "steps").glob("score-*"))) == 1


def is_of_digits(folder):
    return json.loads((folder / "run.json").read_text())["options"]["data"] == "digits"


@pytest.mark.slow
def test_pictures_that_were_trained_on_before_do_not_count(photos, tmp_path):
    """Without a test part a fifth is held out by name: renamed pictures change sides."""
    folder, _ = photos
    out = tmp_path / "run"
    run(data=str(folder), **SMALL, out=out)
    trained = set(Scores.read(out / "scores").sample_ids)
    renamed = tmp_path / "renamed"
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        target = renamed / file.parent.name / (f"x{file.name}" if number % 3 == 0 else file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    found = run(data=str(renamed), **SMALL, out=out)["earlier"]
    table = pq.read_table(out / "evaluation" / "all" / "predictions.parquet").to_pandas()
    names = [name.replace("/x", "/") for name in table[table["attack"] == "clean"]["sample_id"]]
    assert found["seen"] == sum(name in trained for name in names) > 0
    assert found["samples"] == 40 - found["seen"] == sum(line["samples"] for line in found["by_class"])
    page = (report(out=out) and out / "report.html").read_text()
    assert f"{found['seen']} pictures that one of them was trained on are left out" in page


def test_where_all_test_pictures_were_trained_on_nothing_is_compared(tmp_path, digits):
    test = digits.splits["test"]
    x, y = test.images.pixels[:60], test.labels[:60]
    train(data=((x, y), (x, y)), model="digits-cnn", epochs=1, out=tmp_path / "model")
    right = Outcome("clean", "", 0.0, np.arange(60), y, np.zeros(60, bool))
    found = Evaluation(clean=right, attacked=[], worst=[], checks=[])
    assert compare_with_earlier(found, found, digits, [tmp_path / "model"]) is None
    whole = replace(right, index=np.arange(30, 90), pred=test.labels[30:90])  # 30 of these were not
    found = Evaluation(clean=whole, attacked=[], worst=[], checks=[])
    compared = compare_with_earlier(found, found, digits, [tmp_path / "model"])
    assert (compared["samples"], compared["seen"], compared["clean"]["difference"]) == (30, 30, 0)


@pytest.mark.slow
def test_a_damaged_scoring_is_not_gone_on_from(photos, tmp_path):
    folder, _ = photos
    run(data=str(folder), **SMALL, out=tmp_path / "run")
    (tmp_path / "run" / "scores" / "model.safetensors").unlink()
    file, _ = decide(folder, ("train", 0, True))
    assert "earlier" not in run(data=str(folder), **SMALL, decisions=file, out=tmp_path / "run")


@pytest.mark.slow
def test_scores_are_made_anew_where_they_cannot_be_taken_over(photos, tmp_path):
    folder, _ = photos
    out = tmp_path / "run"
    run(data=str(folder), **SMALL, out=out)
    file, _ = decide(folder, *[("train", row, True) for row in range(5)])

    def scorings(**options):
        found = run(data=str(folder), **SMALL | options, decisions=file, out=out)
        return len(list((out / "steps").glob("score-*"))), "earlier" in found

    assert scorings() == (1, True)
    tested, _ = decide(folder, ("test", 0, True), name="tested.json")
    found = run(data=str(folder), **SMALL, decisions=tested, out=out)  # the training part is the same
    assert found["earlier"]["gone"] == 0 and found["earlier"]["samples"] == 40
    assert "earlier" not in run(data="digits", **SMALL, out=tmp_path / "run")  # quite other data in the same folder
    assert scorings() == (2, True)
    shutil.rmtree(out / "steps" / next(path.name for path in (out / "steps").glob("score-*") if is_of_digits(path)))
    assert scorings(seed=1) == (2, False)  # other options than then
    assert scorings(method="moderate") == (3, False)  # the method needs features, and so the models
    source = open_source(str(folder), image_size=32)
    names, labels = source.class_names, source.splits["train"].labels
    lines = [("train", row, names[(labels[row] + 1) % 10]) for row in range(0, 320, 4)]
    many, _ = decide(folder, *lines, name="many.json")
    found = run(data=str(folder), **SMALL, decisions=many, out=tmp_path / "run")
    assert "earlier" not in found and len(list((out / "steps").glob("score-*"))) == 4  # a quarter is relabelled


def test_unreadable_pictures_are_left_out_as_an_audit_does(png_folder, tmp_path):
    """And the images have the size that an audit gives them."""
    broken = next(png_folder.rglob("*.png")).with_name("broken.png")
    broken.write_bytes(b"no picture")
    chosen = choose_defaults(PipelineOptions(data=str(png_folder), out=tmp_path / "run"))
    assert ["broken.png" in line for line in chosen.source.unreadable] == [True]
    found = audit(data=str(png_folder), epochs=1, out=tmp_path / "audit")
    recorded = json.loads((tmp_path / "audit" / "run.json").read_text())["options"]
    assert recorded["image_size"] == chosen.options.image_size == 32
    assert "unreadable" in found.issues["kind"].to_pylist()
    with pytest.raises(UsageError, match="broken"):
        choose_defaults(PipelineOptions(data=str(png_folder), skip_unreadable=False, out=tmp_path / "run"))
    assert choose_defaults(PipelineOptions(data="digits", out=tmp_path / "run")).options.skip_unreadable is False
