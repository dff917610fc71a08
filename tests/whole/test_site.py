"""The manual as a site: built without a warning, read and searched in a real browser without a network."""

import subprocess
import sys

import pytest
from documentation import ROOT, pages

from reporting.test_report import browser  # noqa: F401 - a fixture

WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", ROOT / "docs", folder]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.slow
@pytest.mark.browser
def test_no_page_asks_the_network_or_is_wider_than_the_window(site, browser):  # noqa: F811
    written = [
        page.relative_to(ROOT / "docs").with_suffix(".html") for page in pages() if ROOT / "docs" in page.parents
    ]
    made = ["generated/commands/compare.html", "generated/methods.html", "generated/python.html"]
    asked = []
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for name in [*map(str, written), *made]:
            page.goto((site / name).as_uri())
            assert page.locator("h1").first.is_visible(), name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
    assert len(asked) > 100 and all(url.startswith(("file:", "data:")) for url in asked)
    context.close()


@pytest.mark.slow
@pytest.mark.browser
def test_search_works_offline(site, browser):  # noqa: F811
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.locator("input[name=q]").first.fill("certified radius")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    titles = page.locator("#search-results li > a").all_inner_texts()
    assert any("ball" in title.lower() for title in titles), titles
    context.close()
