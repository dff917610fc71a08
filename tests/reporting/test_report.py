"""The report: opened in a real browser with the network off, counted against the data, attacked with hostile names."""

import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from easycoreset import UsageError, evaluate, report, score
from easycoreset.documents import Document, Figure, Section
from easycoreset.documents.page import figure_json, render_page
from easycoreset.documents.plots import eps_layout
from easycoreset.reporting.run_report import recommend_models
from support.messages import FEW_SAMPLES, named

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
browser_test = pytest.mark.browser
EVIL = "<script>alert(1)</script>"

GRID = [
    "--data",
    "digits",
    "--model",
    "digits-cnn",
    "--methods",
    "random,easycore,hardest",
    "--fractions",
    "0.2,0.4",
    "--updates",
    "5,10",
    "--seeds",
    "2",
    "--score.epochs",
    "1",
    "--eps",
    "0.05,0.1",
    "--main-eps",
    "0.1",
    "--limit",
    "150",
    "--attack",
    "pgd:steps=2:step_size=0.0005",
    "--quiet",
]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    from easycoreset.cli import main

    out = tmp_path_factory.mktemp("grid") / "run"
    assert main(["compare", *GRID, "--controls", "full", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    score(data="digits", epochs=2, out=out)
    evaluate(data="digits", weights=out, attack=["fgsm", "noise"], eps=[0.05, 0.1], out=out)
    return out


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("browser: no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def show(browser):
    """Open a page with the network off; at the end no console message and no request may have been seen."""
    seen = []
    pages = []

    def opened(file, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url) if request.url.startswith(("http", "ws")) else None)
        page.goto(file.as_uri())
        page.wait_for_timeout(500)
        pages.append(context)
        return page

    yield opened
    for context in pages:
        context.close()
    assert seen == []


@browser_test
@pytest.mark.slow
def test_figures_hold_the_data(grid, show):
    page = show(report(out=grid).path)
    rows = pq.read_table(grid / "results.parquet").to_pylist()
    figures = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => ({label: p.getAttribute('aria-label'), traces: p.data.map(t => [t.name, t.x.length])}))"
    )
    drawn = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.scatterlayer .trace').length)"
    )
    frontiers = [f for f in figures if "against clean accuracy" in f["label"]]
    assert len(frontiers) == 2  # one objective, two fractions
    for figure in frontiers:
        assert dict(figure["traces"]) == {"random": 2, "easycore": 2, "hardest": 2, "full": 2}
    cost = next(place for place, f in enumerate(figures) if "each cell's seconds" in f["label"])
    assert sum(n for _, n in figures[cost]["traces"]) == len({row["cell"] for row in rows}) == 28
    points = page.evaluate(
        f"document.querySelectorAll('.plot')[{cost}].querySelectorAll('.scatterlayer .points path').length"
    )
    assert points == 28 and all(n > 0 for n, f in zip(drawn, figures, strict=True) if "accuracy" in f["label"])
    bars = page.evaluate(
        "[...document.querySelectorAll('.plot')].filter(p => p.data[0].type === 'bar').map(p => [p.getAttribute('aria-label'), p.querySelectorAll('.barlayer .point path').length, p.data[0].y])"
    )
    counted = [n for label, n, _ in bars if "samples of each class" in label]
    assert counted and all(n == 20 for n in counted)  # ten classes, before and after
    (histogram,) = [y for label, _, y in bars if "where the easiest" in label]
    assert sum(histogram) == 1438  # every sample is in the histogram


@browser_test
@pytest.mark.slow
def test_the_table_sorts_and_filters_by_keyboard_alone(grid, show):
    page = show(report(out=grid).path)
    table = page.locator(".filterable").first
    place = table.locator("th button").all_text_contents().index("clean")
    cells = f"rows => rows.filter(r => !r.hidden).map(r => r.cells[{place}].textContent)"
    before = table.locator("tbody tr").evaluate_all(cells)
    assert len(before) == 14  # 3 methods x 2 fractions x 2 budgets, and full at two budgets
    button = table.locator("th button").nth(place)
    button.focus()
    page.keyboard.press("Enter")
    ascending = table.locator("tbody tr").evaluate_all(cells)
    means = sorted(float(v.split()[0]) for v in before)
    assert [float(v.split()[0]) for v in ascending] == means and ascending != before
    page.keyboard.press("Enter")
    descending = table.locator("tbody tr").evaluate_all(cells)
    assert [float(v.split()[0]) for v in descending] == means[::-1]
    assert table.locator("th").nth(place).get_attribute("aria-sort") == "descending"
    search = table.locator("input")
    search.focus()
    page.keyboard.type("easycore 5 UPDATES")
    texts = table.locator("tbody tr").evaluate_all("rows => rows.map(r => r.textContent.toLowerCase())")
    expected = sum(all(word in text for word in ("easycore", "5", "updates")) for text in texts)
    assert len(table.locator("tbody tr").evaluate_all(cells)) == expected < 14
    assert table.locator(".count").text_content() == str(expected)


@browser_test
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_run_is_readable_at_any_width_and_in_the_dark(run_folder, show, width, scheme):
    page = show(report(out=run_folder).path, width, scheme)
    titles = page.locator("h2").all_text_contents()
    assert titles[:4] == ["Hardness", "Easiest and hardest", "Training", "Evaluation"]
    assert titles[4:] == ["Each class", "Checks of the evaluation", "Misclassified samples", "How to reproduce it"]
    record = json.loads((run_folder / "evaluation.json").read_text())["summary"]
    table = pq.read_table(run_folder / "predictions.parquet").to_pylist()
    wrong = [line["sample_id"] for line in table if line["attack"] == "clean" and line["broken"]]
    listed = page.locator("section", has=page.get_by_role("heading", name="Misclassified samples")).locator("tbody tr")
    assert listed.count() == len(wrong)
    assert (
        record["worst_class"]
        in page.locator("section", has=page.get_by_role("heading", name="Each class")).inner_text()
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".gallery img").count() == 10 * 2 * 4
    assert page.evaluate(
        "[...document.querySelectorAll('.gallery img')].every(i => i.complete && i.naturalWidth === 8)"
    )
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(int(v) for v in colour[4:-1].split(",")) for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light")
    assert page.evaluate("document.querySelectorAll('canvas').length") <= 4
    assert page.evaluate("[...document.querySelectorAll('img')].every(i => i.alt)")
    assert page.evaluate("document.documentElement.lang") == "en"


@browser_test
@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_hostile_names_stay_text(tmp_path, show):
    for number, name in enumerate(
        [EVIL.replace("/", "\u2044"), "<img src=x onerror=alert(2)>", 'quote" onmouseover="alert(3)']
    ):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (8, 8), (40 * k, 60 * number, 9)).save(tmp_path / "images" / name / f"{k}<b>.png")
    score(data=str(tmp_path / "images"), epochs=1, image_size=8, out=tmp_path / "run")
    page = show(report(out=tmp_path / "run").path)
    page.on("dialog", lambda dialog: pytest.fail("a name was run as code"))
    page.wait_for_timeout(300)
    assert "<img src=x onerror=alert(2)>" in page.locator("main").text_content()
    assert page.locator("main img:not(.gallery img)").count() == 0 and page.locator("main b").count() == 0


def test_json_inside_a_script_cannot_end_it():
    figure = Figure(EVIL, [{"type": "bar", "x": [EVIL, "]]>", "<!--", "\u2028"], "y": [1, 2, 3, 4]}])
    inside = figure_json(figure)
    assert not set("<>&\u2028") & set(inside) and json.loads(inside)["data"][0]["x"][0] == EVIL
    html = render_page(Document(EVIL, [Section(EVIL, [EVIL], bullets=[EVIL], figures=[figure], code=EVIL)]))
    assert EVIL not in html.replace("<script>", "<script>", 1).split("</style>")[1].split('<script>\n"use strict"')[
        0
    ].replace("\\u003c", "")


def test_sixty_thousand_samples_stay_small(tmp_path):
    from easycoreset import Scores

    rng = np.random.default_rng(0)
    columns = {name: rng.random(60_000).astype(np.float32) for name in ("aign", "loss", "el2n", "aum")}
    scores = Scores(
        sample_ids=[f"train/{i:05d}" for i in range(60_000)],
        labels=rng.integers(0, 10, 60_000),
        class_names=[str(k) for k in range(10)],
        n_obs=np.ones(60_000, np.int32),
        columns=columns,
    )
    scores.write(tmp_path / "scores.parquet")
    assert os.path.getsize(report(out=tmp_path)) < 15e6


def test_an_image_that_cannot_be_read_is_named(png_folder, tmp_path, monkeypatch):
    from easycoreset.data import images

    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    score(data=str(png_folder), epochs=1, image_size=8, num_workers=0, out=tmp_path / "run")
    names = pq.read_table(tmp_path / "run" / "scores.parquet")["sample_id"].to_pylist()
    for name in names:
        if name.startswith("class 1/"):
            path = png_folder / name
            path.write_bytes(path.read_bytes()[:20].ljust(path.stat().st_size, b"x"))
    monkeypatch.setattr("easycoreset.data.open_source", None)  # only images that are shown are read
    html = report(out=tmp_path / "run").path.read_text()
    assert html.count("cannot be read") >= 4 and html.count("data:image/png") >= 8


def test_a_folder_without_anything_is_refused(tmp_path, cli):
    with pytest.raises(UsageError, match=r"^out: .*\bresults\.parquet\b"):
        report(out=tmp_path)
    ran = cli("report", "--out", tmp_path / "no")
    assert ran.code == 2 and named(ran.err, "out ", str(tmp_path / "no"))


def test_radii_are_named_as_people_write_them():
    axis = eps_layout([2 / 255, 8 / 255])["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([0.0, 2 / 255, 8 / 255], ["0", "2/255", "8/255"])
    assert "tickvals" not in eps_layout([0.05, 0.1])["xaxis"]


def test_the_verdict_comes_first_and_the_command_last(grid):
    html = report(out=grid).path.read_text()
    assert html.index('<h2 id="title-1">Verdict') < html.index('<h2 id="title-2">Clean against robust')
    verdict = html[html.index('<h2 id="title-1">') : html.index('<h2 id="title-2">')]
    assert all(name in verdict for name in ("easycore", "hardest", "clean accuracy", "first look"))
    assert named(html, "easiest 20%, 40%") and "easiest of class 0" in html
    assert "How to reproduce it" in html and "versions" in html
    cells = len(list((grid / "steps").glob("train-*")))
    assert cells == 28 and html.count(f" {cells} cells (") == 1  # its steps are far too small
    assert "steps, margin" not in html  # one sentence for all cells


def test_the_recommended_models_in_words():
    rows = [{"trained_on": n, "clean": {"accuracy": a}} for n, a in (("coreset", 0.5), ("random", 0.52), ("all", 0.61))]
    sure = [
        {"eps": 0.0, "difference": -0.11, "low": -0.14, "high": -0.08, "p": 0.0},
        {"eps": 2 / 255, "difference": 0.07, "low": 0.05, "high": 0.09, "p": 0.0},
    ]
    chosen = {"clean": "all", "robust": "coreset", "eps": 2 / 255, "gains": sure}
    ordinary, tampered = recommend_models(chosen, rows)
    assert ordinary == (
        "For ordinary pictures take the model of all samples (all/): it is right on 61.0% of the test pictures."
    )
    assert "the model of the coreset (model/)" in tampered and "11 fewer (95% sure: 8 to 14)" in tampered
    assert "up to 2/255 on 7 more (95% sure: 5 to 9)" in tampered
    unsure = [{**gain, "low": -0.2, "high": 0.2, "p": 0.4} for gain in sure]
    assert recommend_models({**chosen, "gains": [unsure[0], sure[1]]}, rows)[1].count("which may be chance") == 1
    (ordinary,) = recommend_models({**chosen, "gains": unsure}, rows)
    assert ordinary.startswith("Take the model of all samples (all/)") and "7 more, which may be chance" in ordinary
    (alone,) = recommend_models({**chosen, "robust": "all"}, rows)
    assert alone.startswith("Take the model of all samples (all/)") and "alike" in alone
