"""The documentation site builds without a warning, and shows every page."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
HOOKS = CHECKOUT / "docs" / "site_hooks.py"

pytest.importorskip("mkdocs", reason='needs pip install ".[docs]"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # without --quiet, which keeps warnings from being counted
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site):
    pages = {path.stem for path in (CHECKOUT / "docs").glob("*.md")} - {"README"}
    assert {name for name in pages if not (site / name / "index.html").is_file()} == set()
    assert (site / "repository" / "index.html").is_file()  # the README of the repository


def test_pictures_of_pages_outside_docs_are_there(site):
    page = site / "repository" / "index.html"
    sources = re.findall(r'<img [^>]*src="([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(sources) >= 2
    assert [source for source in sources if not (page.parent / source).is_file()] == []


def test_examples_and_licence_are_served(site):
    assert (site / "repository" / "examples" / "first_look.ipynb").is_file()
    assert (site / "repository" / "LICENSE").is_file()


def test_nothing_of_the_text_is_loaded_from_elsewhere(site):
    assert "fonts.googleapis" not in (site / "index.html").read_text(encoding="utf-8")


def test_navigation_is_that_of_the_index():
    navigation = runpy.run_path(str(HOOKS))["navigation"]
    rows = "| page | answers |\n|---|---|\n| [a](a.md) | ? |\n| [b](../README.md) | ? |\n"
    index = f"# Title\n\n## Start\n\n{rows}\n## Empty\n"
    first_page = {"Overview, install, quick start": "repository/README.md"}
    assert navigation(index) == [{"Home": "README.md"}, {"Start": ["a.md", first_page]}]


def test_links_out_of_the_folder_become_links_within_the_site():
    rewrite = runpy.run_path(str(HOOKS))["with_site_links"]
    text = "[r](../README.md#install) [w](https://a.b/c.md) [s](#here) [p](settings.md) ![i](images/flow.svg)"
    assert rewrite(text, CHECKOUT / "docs" / "results.md") == (
        "[r](repository/README.md#install) [w](https://a.b/c.md) [s](#here) [p](settings.md) ![i](images/flow.svg)"
    )
    named = "See [docs/settings.md](docs/settings.md#flat-settings)."
    assert rewrite(named, CHECKOUT / "README.md") == "See [Settings](../settings.md#flat-settings)."
    assert rewrite("![i](docs/images/flow.svg)", CHECKOUT / "README.md") == "![i](../images/flow.svg)"


def test_the_home_page_shows_titles_in_place_of_names_of_files(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<td><a href="([^"]+)">([^<]+)</a></td>', home)
    assert ("mini_plans/", "Plans for machines without a GPU") in links
    assert [text for _, text in links if text.endswith(".md")] == []


def test_names_in_tables_break_between_words_only(site):
    assert 'href="stylesheets/tables.css"' in (site / "index.html").read_text(encoding="utf-8")
    assert "word-break: normal" in (site / "stylesheets" / "tables.css").read_text(encoding="utf-8")
