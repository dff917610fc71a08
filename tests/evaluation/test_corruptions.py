"""Corruptions: each by its definition, and an evaluation on them."""

import colorsys
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from easycoreset import UsageError, evaluate, export, load_model, open_source
from easycoreset.corruptions import BENCHMARK_CORRUPTIONS, CORRUPTIONS, Corruption, load_corruptions
from easycoreset.corruptions.stored import STANDARD
from easycoreset.parquet import read_table
from support.messages import named

COLOUR = (3, 32, 32)
RNG = np.random.default_rng(0)
PICTURE = RNG.random((32, 32, 3))


def one(name, severity, shape=COLOUR, seed=0):
    (corruption,) = load_corruptions(f"{name}:severity={severity}", shape, seed)
    return corruption


def raw(name, severity, image, seed=0):
    """The image before it is clipped and rounded."""
    return one(name, severity, (image.shape[2], *image.shape[:2])).function(
        image, severity, np.random.default_rng(seed)
    )


def test_a_fixed_draw_for_each_seed_and_index():
    x, index = torch.rand(7, *COLOUR), torch.arange(7) * 3
    for name in CORRUPTIONS:
        corruption = one(name, 4)
        whole = corruption(x, index)
        parts = torch.cat([corruption(x[5:], index[5:]), corruption(x[:5], index[:5])])
        assert torch.equal(torch.cat([whole[5:], whole[:5]]), parts) and whole.shape == x.shape
        assert torch.equal(whole * 255, (whole * 255).round()) and whole.min() >= 0 and whole.max() <= 1
        is_random = not torch.equal(one(name, 4, seed=1)(x, index), whole)
        assert is_random == ("noise" in name or name == "motion_blur")
        assert is_random == (not torch.equal(corruption(x[:1], torch.tensor([5])), whole[:1]))


def assert_grows(x, shape):
    index = torch.arange(len(x))
    for name in CORRUPTIONS:
        if name != "saturate":
            changes = [float((c(x, index) - x).abs().mean()) for c in load_corruptions(name, shape, 0)]
            steps = np.diff([0, *changes])
            if name == "motion_blur":  # severities 3 and 4 have sigma 2 both: the longer trail weighs nothing
                assert abs(steps[3]) < 1e-4
                steps = np.delete(steps, 3)
            assert len(changes) == 5 and (steps > 0).all(), name


def test_more_severe_ones_change_more(digits):
    """Of digits, scaled to 32 pixels: three channels of the same grey."""
    batch = next(digits.splits["train"].batches(np.arange(60), 60))
    assert_grows(
        torch.nn.functional.interpolate(batch.x, size=32, mode="bicubic").clip(0, 1).expand(-1, 3, -1, -1), COLOUR
    )


@pytest.mark.real_data
def test_more_severe_ones_change_photographs_more(data_root):
    split = open_source(f"cifar10:{data_root}").splits["test"]
    assert_grows(next(split.batches(np.arange(100), 100)).x, COLOUR)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_noise(severity):
    grey = np.full((200, 200, 3), 0.4)
    noise = raw("gaussian_noise", severity, grey) - grey
    assert abs(noise.std() - (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]) < 0.001 and abs(noise.mean()) < 0.001
    counts = raw("shot_noise", severity, grey) * (photons := (500, 250, 100, 75, 50)[severity - 1])
    assert np.allclose(counts, counts.round()) and abs(counts.mean() / photons - 0.4) < 0.002
    assert abs(counts.var() / counts.mean() - 1) < 0.03
    hit = raw("impulse_noise", severity, grey)
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    assert abs((hit == 1).mean() - share / 2) < 0.002 and abs((hit == 0).mean() - share / 2) < 0.002
    assert set(np.unique(hit)) == {0.0, 0.4, 1.0} and ((hit == 1).sum(axis=2) == 1).any()


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_colour_is_that_of_hsv(severity):
    image = PICTURE[:8, :8].copy()
    image[0, 0], image[0, 1], image[0, 2] = 0, 0.5, (0.9, 0.9, 0.2)
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    factor, summand = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    brighter, coloured = raw("brightness", severity, image), raw("saturate", severity, image)
    for place in np.ndindex(8, 8):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[place])
        np.testing.assert_allclose(
            brighter[place], colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1)), atol=1e-9
        )
        wanted = np.clip(saturation * factor + summand, 0, 1)
        np.testing.assert_allclose(coloured[place], colorsys.hsv_to_rgb(hue, wanted, value), atol=1e-9)
    grey = PICTURE[..., :1]
    np.testing.assert_allclose(raw("brightness", severity, grey), np.minimum(grey + added, 1), atol=1e-12)
    left = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    for channel in range(3):
        values = PICTURE[..., channel]
        expected = values.mean() + left * (values - values.mean())
        np.testing.assert_allclose(raw("contrast", severity, PICTURE)[..., channel], expected, atol=1e-12)


def test_blurs():
    for side in (32, 64):
        dot = np.zeros((side, side, 1))
        dot[side // 2, side // 2] = 1
        blurred = raw("gaussian_blur", 5, dot)[..., 0]
        offsets = np.arange(side) - side // 2
        variance = (blurred.sum(0) * offsets**2).sum()
        assert abs(blurred.sum() - 1) < 1e-9 and abs(variance**0.5 - 1.0 * side / 32) < 0.06 * side / 32
        for seed in range(5):
            trail = raw("motion_blur", 5, dot, seed)[..., 0]
            assert abs(trail.sum() - 1) < 1e-9
            ys, xs = np.nonzero(trail > 1e-6)
            dy, dx = ys - side // 2, xs - side // 2
            assert trail.max() == trail[side // 2, side // 2]
            assert (abs(dy) <= abs(dx) + 1).all() and len(set(np.sign(dx)) - {0}) == 1  # one side, within 45 degrees
            distance = np.hypot(dy, dx) * 32 / side
            assert distance.max() <= 19 and trail[ys, xs][distance <= 5].sum() > 0.9  # twice sigma, of a half Gaussian
    flat = np.full((32, 32, 3), 0.3)
    np.testing.assert_allclose(raw("motion_blur", 5, flat), flat, atol=1e-12)
    np.testing.assert_allclose(raw("gaussian_blur", 5, flat), flat, atol=1e-12)


def test_compression():
    pixels = np.round(PICTURE * 255).astype(np.uint8)
    for severity, quality in enumerate((80, 65, 58, 50, 40), 1):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        stored = np.asarray(Image.open(buffer)) / 255
        np.testing.assert_allclose(raw("jpeg_compression", severity, pixels / 255), stored, atol=1e-12)
    for severity, side in enumerate((30, 28, 27, 24, 20), 1):
        coarse = raw("pixelate", severity, pixels / 255)
        assert (
            len(np.unique(coarse.reshape(-1, 3), axis=0)) <= side**2 and len(np.unique(coarse[..., 0], axis=0)) == side
        )


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ("gausian_noise", COLOUR, ("gausian_noise", "gaussian_noise")),
        ("contrast:severity=6", COLOUR, ("severity", "5", "6")),
        ("contrast:severity=x", COLOUR, ("severity",)),
        ("contrast:level=2", COLOUR, ("severity=S", "contrast:level=2")),
        ("contrast", (1, 7, 9), ("8 pixels", "7")),
        ("saturate", (1, 28, 28), ("one channel", "saturate")),
    ],
)
def test_wrong_names(spec, shape, words):
    with pytest.raises(UsageError) as raised:
        load_corruptions(spec, shape, 0)
    assert named(str(raised.value), *words), raised.value


def test_images_of_one_channel():
    names = {c.name for c in load_corruptions("all", (1, 28, 28), 0)}
    assert names == set(CORRUPTIONS) - {"saturate"}
    x = torch.rand(3, 1, 28, 28)
    for corruption in load_corruptions("all", (1, 28, 28), 0):
        assert corruption(x, torch.arange(3)).shape == x.shape


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda image, severity, rng: image[:4], "shape"),
        (lambda image, severity, rng: image * np.nan, "NaN"),
        (lambda image, severity, rng: 1 / 0, "division by zero"),
    ],
)
def test_a_wrong_function_of_a_user(function, words):
    with pytest.raises(UsageError, match=words):
        Corruption("my:fog", 1, function)(torch.rand(1, *COLOUR), torch.arange(1))


def test_they_are_added_to_an_evaluation(scored, tmp_path, digits, cli):
    given = {"data": "digits", "weights": scored, "attack": "noise:draws=1", "eps": [0.1], "out": tmp_path / "e"}
    evaluate(**given)
    before = (tmp_path / "e" / "predictions.parquet").read_bytes()
    evaluate(**given, corruptions="contrast")
    ran = cli(
        *("evaluate", "--data", "digits", "--weights", scored, "--attack", "noise:draws=1", "--eps", 0.1),
        *("--out", tmp_path / "e", "--corruptions", "--json"),
    )
    assert ran.code == 0 and (tmp_path / "e" / "predictions.parquet").read_bytes() == before
    table = read_table(tmp_path / "e" / "corruptions.parquet", {"index": "integer", "pred": "integer"})
    n = len(digits.splits["test"])
    assert table.num_rows == 9 * 5 * n
    rows = table.to_pandas()
    right = (rows["pred"] == rows["label"]).groupby([rows["corruption"], rows["severity"]]).mean()
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())["summary"]["corruptions"]
    assert found["samples"] == n and len(found["kinds"]) == 9
    assert found["mean_of_eight"]["accuracy"] == pytest.approx(
        np.mean([right[name].mean() for name in BENCHMARK_CORRUPTIONS])
    )
    assert found["severities"]["5"]["accuracy"] == pytest.approx(right.xs(5, level=1).mean())
    for kind in found["kinds"]:
        assert kind["accuracy"] == pytest.approx(right[kind["corruption"]].mean()) and kind["low"] <= kind["high"]
        for severity, line in kind["severities"].items():
            assert line["accuracy"] == pytest.approx(right[kind["corruption"], int(severity)])
    ran = cli("report", "--out", tmp_path / "e")
    page = (tmp_path / "e" / "report.html").read_text()
    assert ran.code == 0 and "Corrupted images" in page and page.count("data:image/png;base64") >= 9 * 5
    model = load_model(scored)
    batch = next(digits.splits["test"].batches(np.arange(n), n))
    changed = one("impulse_noise", 3, (1, 8, 8))(batch.x, batch.index)
    with torch.no_grad():
        assert (model(changed).argmax(1) == batch.y).float().mean() == pytest.approx(right["impulse_noise", 3])
    assert found["kinds"][0]["severities"]["1"]["accuracy"] > 0.8  # hardly changed images are recognised


def test_what_is_asked_twice_is_refused(scored, tmp_path):
    given = {"data": "digits", "weights": scored, "attack": "noise", "eps": [0.1], "out": tmp_path / "e"}
    with pytest.raises(UsageError, match="once each"):
        evaluate(**given, corruptions=["contrast", "contrast:severity=2"])
    with pytest.raises(UsageError, match="cifar10-c"):
        evaluate(**given, corruptions=f"cifar10-c:{tmp_path}")
    assert not (tmp_path / "e").exists()


def write_black(file):
    """50,000 black images of CIFAR's size, in a file that takes no room."""
    with open(file, "wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (50_000, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 50_000 * 32 * 32 * 3)


@pytest.mark.real_data
def test_the_arrays_of_the_benchmark(tmp_path, data_root):
    """Sparse files of its shapes: black, but for some images."""
    data = f"cifar10:{data_root}"
    labels = open_source(data).splits["test"].labels
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    for name in STANDARD[:-1]:
        write_black(folder / f"{name}.npy")
    given = {"data": data, "limit": 30, "attack": "noise:draws=1", "eps": [0.01]}
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)
    model[1].bias.data[6] = 0.1
    model[1].weight.data[3] = 1.0  # black is class 6, anything else class 3
    with pytest.raises(UsageError, match=STANDARD[-1]):
        evaluate(**given, weights=model, corruptions=f"cifar10-c:{folder}", out=tmp_path / "e")
    write_black(folder / f"{STANDARD[-1]}.npy")
    array = np.load(folder / f"{STANDARD[-1]}.npy", mmap_mode="r+")
    array[20_000:30_000, 0, 0, 0] = 9  # severity 3
    array.flush()
    result = evaluate(**given, weights=model, corruptions=f"cifar10-c:{folder}", checks="quick", out=tmp_path / "e")
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())["summary"]["corruptions"]
    drawn = labels[result.clean.index]
    black, grey = (drawn == 6).mean(), (drawn == 3).mean()
    assert found["cifar10-c"]["accuracy"] == pytest.approx((74 * black + grey) / 75)
    last = found["kinds"][-1]
    assert last["corruption"] == f"cifar10-c:{STANDARD[-1]}" and last["severities"]["3"]["accuracy"] == pytest.approx(
        grey
    )
    assert "mean_of_eight" not in found
    export(source=tmp_path / "e", format="robustbench", out=tmp_path / "model.json")
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["threat_model"] == "corruptions" and told["eps"] is None and "autoattack_acc" not in told
    assert told["corruptions_acc"] == f"{100 * (74 * black + grey) / 75:.2f}" and "30 samples" in told["footnote"]
    np.save(folder / "labels.npy", np.roll(np.tile(labels, 5), 1))
    with pytest.raises(UsageError, match="labels"):
        evaluate(**given, weights=model, corruptions=f"cifar10-c:{folder}", out=tmp_path / "f")
