"""The page on which a person decides about pictures, in a real browser without a network."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from easycoreset import audit, clean, open_source, report
from easycoreset.auditing.issue_pictures import encode_thumbnail
from easycoreset.decisions import Decision, read_decisions
from easycoreset.documents import Document, Section
from easycoreset.documents.page import render_page
from easycoreset.documents.review import Review, ReviewIssue, ReviewPicture
from reporting.test_report import browser, show  # noqa: F401 - fixtures

pytestmark = pytest.mark.browser
CLASSES = ["ant", "bee", "cat <b>", 'dog "x"\n']
THUMBNAIL = encode_thumbnail(Image.new("RGB", (32, 32), (200, 120, 30)))


def make_page(folder, count, names=None, pairs=0, original="", earlier=()):
    """A page of `count` labels, and of `pairs` duplicates among the same pictures."""
    names = names or [f"train/ant/{number}.png" for number in range(count)]
    pictures = [
        ReviewPicture("train" if n % 5 else "test", names[n], CLASSES[n % 2], f"{n:016x}", THUMBNAIL, original)
        for n in range(count)
    ]
    issues = [ReviewIssue("label", n, 1 - n / count, CLASSES[2 + n % 2]) for n in range(count)]
    issues += [ReviewIssue("duplicate", n, 1.0, None, n + 1) for n in range(0, 2 * pairs, 2)]
    review = Review(
        "photos", "feed" * 4, CLASSES, {"label": "Wrong.", "duplicate": "Twice."}, pictures, issues, earlier
    )
    file = folder / "report.html"
    file.write_text(render_page(Document("a page", [Section("Pictures", review=review)])), encoding="utf-8")
    return file


def save(page):
    with page.expect_download() as download:
        page.locator(".save").click()
    return download.value


def test_decisions_are_kept_saved_and_read_back(tmp_path, show):  # noqa: F811
    page = show(make_page(tmp_path, 250, pairs=3))
    assert page.locator(".card").count() == 100 and page.locator(".where").first.inner_text() == "1 to 100 of 250"
    page.get_by_label("leave out train/ant/3.png").check()
    page.get_by_role("button", name="it is cat <b>").first.click()
    menu = page.get_by_label("right label of train/ant/5.png")
    menu.focus()
    menu.select_option("bee")  # its own label: no decision
    menu.select_option(CLASSES[3])
    page.locator(".after").first.click()
    page.get_by_label("leave out train/ant/101.png").check()
    assert page.locator(".count").inner_text() == "2 left out, 2 with another label"
    page.reload()
    page.wait_for_timeout(300)
    assert page.locator(".count").inner_text() == "2 left out, 2 with another label"
    assert page.get_by_label("leave out train/ant/3.png").is_checked()
    download = save(page)
    assert download.suggested_filename == "decisions.json"
    saved = tmp_path / "decisions.json"
    download.save_as(saved)
    found = {one.sample_id: (one.leave_out, one.right_label, one.part) for one in read_decisions(saved)}
    assert found == {
        "train/ant/0.png": (False, "cat <b>", "test"),
        "train/ant/3.png": (True, None, "train"),
        "train/ant/5.png": (False, CLASSES[3], "test"),
        "train/ant/101.png": (True, None, "train"),
    }
    with page.expect_download() as table:
        page.locator(".csv").click()
    text = table.value.path().read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["sample_id"] for row in rows] == list(found) and rows[2]["right_label"] == CLASSES[3]
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator(".forget").click()
    assert (
        page.locator(".count").inner_text() == "0 left out, 0 with another label"
        and page.locator(".save").is_disabled()
    )
    content = json.loads(saved.read_text())
    content["decisions"].append({**content["decisions"][0], "sample_id": "elsewhere"})
    content["decisions"].append({**content["decisions"][1], "sample_id": "train/ant/9.png"})  # another digest
    saved.write_text(json.dumps(content))
    page.locator(".read").set_input_files(saved)
    page.wait_for_function("document.querySelector('.said').textContent !== ''")
    assert page.locator(".said").inner_text().startswith("4 decisions read; 2 are about pictures that are not here")
    assert page.locator(".count").inner_text() == "2 left out, 2 with another label"
    (tmp_path / "wrong.json").write_text("[]")
    page.locator(".read").set_input_files(tmp_path / "wrong.json")
    page.wait_for_function("document.querySelector('.said').textContent.startsWith('wrong.json')")


def test_what_was_decided_before_is_saved_with_what_is_decided_now(tmp_path, show):  # noqa: F811
    """The page's labels are those after the first decisions; the file is for the data as they lie on disk."""
    first = Decision("train", "train/ant/2.png", f"{2:016x}", "bee", right_label="ant")  # shown as ant
    gone = Decision("train", "train/ant/77.png", "feed", "bee", leave_out=True)  # not on this page any more
    page = show(make_page(tmp_path, 10, earlier=[first, gone]))
    assert page.locator(".count").inner_text() == "0 left out, 0 with another label"
    page.get_by_label("leave out train/ant/3.png").check()
    menu = page.get_by_label("right label of train/ant/2.png")
    menu.focus()
    menu.select_option("cat <b>")
    save(page).save_as(tmp_path / "both.json")
    found = {one.sample_id: one for one in read_decisions(tmp_path / "both.json")}
    assert set(found) == {"train/ant/2.png", "train/ant/3.png", "train/ant/77.png"} and found[gone.sample_id] == gone
    assert (found[first.sample_id].label, found[first.sample_id].right_label) == ("bee", "cat <b>")
    menu = page.get_by_label("right label of train/ant/2.png")
    menu.focus()
    menu.select_option("")  # undone: what was decided first holds again
    save(page).save_as(tmp_path / "undone.json")
    assert {one.sample_id: one for one in read_decisions(tmp_path / "undone.json")}[first.sample_id] == first


def test_all_of_a_kind_and_both_of_a_pair(tmp_path, show):  # noqa: F811
    page = show(make_page(tmp_path, 20, pairs=3))
    page.locator(".kinds").select_option("duplicate")
    assert page.locator(".card.pair").count() == 3 and page.locator(".card input[type=checkbox]").count() == 6
    page.locator(".all-out").click()
    assert page.locator(".count").inner_text() == "3 left out, 0 with another label"
    page.locator(".card input[type=checkbox]").nth(1).check()  # the original too
    assert page.locator(".count").inner_text() == "4 left out, 0 with another label"
    page.locator(".all-undo").click()
    assert page.locator(".count").inner_text() == "1 left out, 0 with another label"
    page.locator(".kinds").select_option("label")
    page.locator(".classes").select_option("bee")
    assert page.locator(".card").count() == 10
    page.locator(".all-suggested").click()
    assert page.locator(".count").inner_text() == "1 left out, 9 with another label"  # one of these is left out
    page.locator(".parts").select_option("test")
    assert page.locator(".card").count() == 2


def test_a_picture_in_its_own_size_by_keys(tmp_path, show):  # noqa: F811
    Image.new("RGB", (300, 200), "green").save(tmp_path / "large.png")
    page = show(make_page(tmp_path, 120, original="large.png"))
    page.locator(".picture").nth(98).focus()
    page.keyboard.press("Enter")
    assert page.locator(".viewer").evaluate("viewer => viewer.open")
    page.wait_for_function("document.querySelector('.viewer img').naturalWidth === 300")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "train/ant/100.png" in page.locator(".viewer figcaption").inner_text()
    page.keyboard.press("x")
    assert page.locator(".viewer input").is_checked()
    page.keyboard.press("ArrowLeft")
    assert not page.locator(".viewer input").is_checked()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert page.locator(".where").first.inner_text() == "101 to 120 of 120"  # the page of the last that was seen
    assert page.locator(".cards").get_by_label("leave out train/ant/100.png").is_checked()


def test_a_page_without_its_originals_shows_thumbnails(tmp_path, browser):  # noqa: F811
    page = browser.new_page()
    page.goto(make_page(tmp_path, 3, original="../gone/1.png").as_uri())
    page.locator(".picture").first.click()
    page.wait_for_function("document.querySelector('.viewer figcaption').textContent.includes('not at hand')")
    assert page.locator(".viewer img").evaluate("image => image.naturalWidth") == 32
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_names_and_small_screens(tmp_path, show, width):  # noqa: F811
    names = [
        "train/a/<img src=x onerror=alert(1)>.png",
        "train/a/</script><script>alert(2)</script>.png",
        "train/a/line\nbreak\u2028.png",
        "train/a/'\"&amp;.png",
        "=cmd()/x.png",
        "train/a/" + "long" * 60 + ".png",
    ]
    page = show(make_page(tmp_path, len(names), names=names), width=width)
    assert page.locator(".card").count() == len(names)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator(".card .name").nth(0).inner_text() == names[0]
    for number in range(len(names)):
        page.locator(".card input[type=checkbox]").nth(number).check()
    download = save(page)
    assert [one["sample_id"] for one in json.loads(download.path().read_text())["decisions"]] == names
    with page.expect_download() as table:
        page.locator(".csv").click()
    assert "'=cmd()/x.png" in table.value.path().read_bytes().decode()


def test_ten_thousand_issues(tmp_path, show):  # noqa: F811
    file = make_page(tmp_path, 10_000)
    page = show(file)
    assert page.locator(".card").count() == 100 and page.locator(".where").first.inner_text() == "1 to 100 of 10000"
    page.locator(".all-out").click()
    assert page.locator(".count").inner_text() == "10000 left out, 0 with another label"
    page.reload()
    page.wait_for_timeout(500)
    assert page.locator(".count").inner_text() == "10000 left out, 0 with another label"


@pytest.mark.slow
def test_from_a_folder_to_clean_data(tmp_path, show, digits):  # noqa: F811
    """Digits as files with ten wrong labels: audit, decide on the page, clean; what was decided is what is written."""
    split = digits.splits["train"]
    rng = np.random.default_rng(0)
    wrong = {}
    for row in range(500):
        label = int(split.labels[row])
        given = (label + int(rng.integers(1, 10))) % 10 if row % 50 == 0 else label
        file = tmp_path / "photos" / str(given) / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images.pixels[row, ..., 0].numpy()).resize((16, 16)).save(file)
        if given != label:
            wrong[f"{given}/{row}.png"] = str(label)
    found = audit(data=str(tmp_path / "photos"), image_size=16, model="digits-cnn", epochs=25, out=tmp_path / "audit")
    report(out=found)
    page = show(tmp_path / "audit" / "report.html")
    page.locator(".all-suggested").click()
    saved = tmp_path / "decisions.json"
    save(page).save_as(saved)
    called = found.issues.filter(np.array(found.issues["kind"].to_pylist()) == "label").to_pylist()
    assert len(called) >= 4 and sum(line["sample_id"] in wrong for line in called) / len(called) > 0.6
    out = clean(data=str(tmp_path / "photos"), decisions=saved, out=tmp_path / "clean")
    changes = {one["sample_id"]: one["right_label"] for one in json.loads((out / "clean.json").read_text())["changes"]}
    assert changes == {line["sample_id"]: line["suggestion"] for line in called}
    corrected = sum(changes.get(name) == label for name, label in wrong.items())
    assert corrected >= 3
    source = open_source(str(out), image_size=16)
    assert sum(map(len, source.splits.values())) == 500
