"""README and the manual are true: their code runs, their commands exist, their links lead somewhere."""

import sys

import pytest
from documentation import ROOT, blocks, commands, links, pages
from PIL import Image

from easycoreset.cli import main
from easycoreset.options import OPTIONS, field_names

RUN = ("bash", "python")
GENERAL = {"config", "json", "quiet", "debug", "list", "help", "show-recipe"}
OTHERS = {"demo": {"out", "workers", "overwrite"}, "doctor": set()}
QUICK = {"README.md", "published-scores.md"}
IN_ORDER = [
    pytest.param(page, id=page.name, marks=[] if page.name in QUICK else [pytest.mark.slow])
    for page in pages()
    if any(block.language in RUN for block in blocks(page))
]


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("page", IN_ORDER)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, inline, digits):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    if page == ROOT / "README.md":
        make_photos(tmp_path / "photos", digits)
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, f"{page.name}", "exec"), names)
        elif block.language == "bash":
            for words in commands(block):
                assert words[0] == "easycoreset" and main(words[1:]) == 0, words
    sys.modules.pop("mine", None)


def make_photos(folder, digits):
    split = digits.splits["train"]
    for row in range(120):
        place = folder / f"class {split.labels[row]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images.pixels[row, :, :, 0].numpy()).save(place / f"{row}.png")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_have_the_options_that_a_page_names(page):
    for block in blocks(page):
        for words in commands(block) if block.language in ("bash", "console") else ():
            if "easycoreset" not in words[:-1]:
                continue
            start = words.index("easycoreset")
            command, given = words[start + 1], [word[2:].partition("=")[0] for word in words if word.startswith("--")]
            known = (
                {name.replace("_", "-") for name in field_names(OPTIONS[command])}
                if command in OPTIONS
                else OTHERS[command]
            )
            outside = {name for name in given if "." not in name} - known - GENERAL
            assert not outside - {f"no-{name}" for name in known} - set(torchrun(words[:start])), (page.name, words)


def torchrun(words):
    return [word[2:] for word in words if word.startswith("--")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in links(page):
        target = (page.parent / link).resolve()
        made = "generated" in target.parts
        assert made or target.exists(), f"{page.name}: {link}"


def test_readme_is_short_and_every_source_that_a_page_names_is_there():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
    named = 0
    for page in pages():
        for word in page.read_text().replace("`", " ").replace(",", " ").replace(")", " ").replace(";", " ").split():
            if word.startswith("results/"):
                assert (ROOT / word.rstrip(".:")).exists(), f"{page.name}: {word}"
                named += 1
    assert named > 20 and all("# " in page.read_text()[:20] for page in pages())
