"""A folder of photographs cleaned by a person with a browser, and what that bought.

`python -m benchmarks.clean_folder cifar10:DIR RESULT.json [DRAWS]`: the folder of `benchmarks.photo_folder` (5% wrong
labels, copies, leaks). `run` looks at it and trains; its page is opened in Chromium by somebody who sees what a picture
shows: of each label that is called wrong he gives the right one if it is wrong, all copies and leaks are left out.
`run --decisions` goes on. Told are the clicks, the seconds, and the accuracies before and after, with intervals: on
the test pictures, whose labels are right.
"""

import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Page, sync_playwright
from tests.support.photo_folder import PhotoFolder, make_photo_folder

from benchmarks.__main__ import describe
from easycoreset import open_source, run

SIDE = 32
FIRST = 2  # folder that is drawn, as in `benchmarks.photo_folder`
EPS = (2 / 255, 8 / 255)
KINDS = ("leak", "duplicate", "near duplicate")  # of which all are left out by one click


class Clicks:
    """Clicks on a page, counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def click(self, what: Any) -> None:
        """Click on something."""
        what.click()
        self.count += 1

    def choose(self, menu: Any, name: str) -> None:
        """Choose from a menu: one click opens it, one chooses."""
        menu.focus()
        menu.select_option(name)
        self.count += 2


def decide(page: Page, faults: PhotoFolder, saved: Path) -> int:
    """Decide on all pictures of the page, and save; returns the clicks."""
    clicks = Clicks(page)
    kinds = [option.split(" (")[0] for option in page.locator(".kinds option").all_inner_texts()]
    for kind in kinds:
        if kind not in (*KINDS, "label"):
            continue
        clicks.choose(page.locator(".kinds"), kind)
        if kind in KINDS:
            clicks.click(page.locator(".all-out"))
            continue
        while True:
            for name in page.locator(".card .name").all_inner_texts():
                if name in faults.wrong:
                    _relabel(clicks, name, faults.wrong[name])
            if page.locator(".after").first.is_disabled():
                break
            clicks.click(page.locator(".after").first)
    with page.expect_download() as download:
        clicks.click(page.locator(".save"))
    download.value.save_as(saved)
    return clicks.count


def _relabel(clicks: Clicks, name: str, label: str) -> None:
    """Give a picture its right label: by its button where that is suggested, else from the menu."""
    card = clicks.page.locator(".one", has=clicks.page.locator(f'.name[title="{name}"]')).first
    button = card.get_by_role("button", name=f"it is {label}", exact=True)
    if button.count():
        clicks.click(button)
    else:
        clicks.choose(card.get_by_label(f"right label of {name}"), label)


def measure(data: str, seed: int, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """One draw of the folder, and the minutes of the first run, of deciding, and of the second run."""
    photos = folder / "photos"
    faults = make_photo_folder(photos, open_source(data), seed)
    options: dict[str, Any] = {"data": str(photos), "skip_unreadable": True, "image_size": SIDE, "eps": EPS}
    options |= {"seed": seed, "out": folder / "run"}
    times = [time.monotonic()]
    run(**options)
    times.append(time.monotonic())
    with sync_playwright() as playwright:
        chromium = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((folder / "run" / "audit" / "report.html").resolve().as_uri())
        clicks = decide(page, faults, folder / "decisions.json")
        browser.close()
    times.append(time.monotonic())
    earlier = dict(run(**options, decisions=folder / "decisions.json") or {})["earlier"]
    times.append(time.monotonic())
    decisions = json.loads((folder / "decisions.json").read_text())["decisions"]
    facts = {
        "seed": seed,
        "wrong_labels": len(faults.wrong),
        "relabelled": sum("right_label" in one for one in decisions),
        "left_out": sum("leave_out" in one for one in decisions),
        "clicks": clicks,
        "earlier": earlier,
    }
    return facts, [round((b - a) / 60, 1) for a, b in itertools.pairwise(times)]


def main() -> None:
    """Clean the folders, print and write."""
    torch.set_num_threads(1)
    data, result = sys.argv[1], Path(sys.argv[2])
    draws = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    command = f"python -m benchmarks.clean_folder cifar10:DIR {result} {draws}"
    record: dict[str, Any] = {**describe(), "command": command, "draws": [], "minutes": []}
    for seed in range(FIRST, FIRST + draws):
        with tempfile.TemporaryDirectory() as place:
            facts, minutes = measure(data, seed, Path(place))
            record["draws"].append(facts)
            record["minutes"].append(minutes)
        print(json.dumps(facts), minutes, flush=True)
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
