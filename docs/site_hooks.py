"""What mkdocs does not know by itself: the navigation, and files of the repository that lie outside ``docs``.

The navigation is read from ``docs/README.md``, so that a page is listed once: each ``##`` heading is a section, each
row of its table a page. Links that leave ``docs`` (the README, examples, benchmarks) are served below ``repository/``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
CHECKOUT = DOCS.parent
INDEX = "README.md"
OUTSIDE = "repository"
PAGES_OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/label_efficiency/README.md")
SECTION = re.compile(r"^## (.+)$")
ROW = re.compile(r"^\| \[[^\]]+\]\(([^)#\s]+)\)")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
FILE_NAME = re.compile(r"\[([\w./-]+\.md)\](?=\(([^)\s#]+))")
TITLES = {
    f"{OUTSIDE}/README.md": "Overview, install, quick start"
}  # of pages that are called otherwise in the navigation
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))|(src=\")([^\"]+)(\")")


def on_config(config: Any) -> Any:
    """Give mkdocs the navigation of the index."""
    config.nav = navigation((DOCS / INDEX).read_text(encoding="utf-8"))
    return config


def navigation(index: str) -> list[Any]:
    """Return what ``nav:`` in mkdocs.yml would say.

    Args:
        index: The text of ``docs/README.md``.
    """
    sections: list[Any] = [{"Home": INDEX}]
    for line in index.splitlines():
        if heading := SECTION.match(line):
            sections.append({heading.group(1): []})
        elif (row := ROW.match(line)) and len(sections) > 1:
            path = site_path(DOCS / row.group(1))
            next(iter(sections[-1].values())).append({TITLES[path]: path} if path in TITLES else path)
    return [section for section in sections if next(iter(section.values()))]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside ``docs``, and every file that a page links to."""
    for name in PAGES_OUTSIDE:
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"{OUTSIDE}/{name}", content=with_site_links(text, CHECKOUT / name)))
    pages = [*DOCS.glob("*.md"), *(CHECKOUT / name for name in PAGES_OUTSIDE)]
    for path in sorted({target for page in pages for target in linked_files(page)}):
        if DOCS not in path.parents and path.relative_to(CHECKOUT).as_posix() not in PAGES_OUTSIDE:
            files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links out of ``docs`` links within the site."""
    source = Path(page.file.abs_src_path) if page.file.abs_src_path else None
    if source is None or DOCS not in source.parents:
        return markdown
    return with_site_links(with_titles(markdown) if source == DOCS / INDEX else markdown, source)


def with_titles(index: str) -> str:
    """Return the index with titles of pages where the repository, in which one looks for files, shows their names.

    Args:
        index: The text of ``docs/README.md``.
    """

    def titled(line: str) -> str:
        row = ROW.match(line)
        title = TITLE.search((DOCS / row.group(1)).read_text(encoding="utf-8")) if row else None
        return line if row is None or title is None else f"| [{title.group(1)}]({row.group(1)}){line[row.end() :]}"

    return "\n".join(titled(line) for line in index.split("\n"))


def linked_files(page: Path) -> list[Path]:
    """Return the files of the repository that a page links to."""
    found = []
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        path = _target(match.group(2) or match.group(6), page)
        if path is not None and path.is_file():
            found.append(path)
    return found


def with_site_links(text: str, page: Path) -> str:
    """Return a page's text with links that hold in the site, and titles of pages in place of names of files.

    Args:
        text: Markdown.
        page: The file that the text is of.
    """
    here = Path(site_path(page)).parent

    def replaced(match: re.Match[str]) -> str:
        before, link, after = match.group(1) or match.group(5), match.group(2) or match.group(6), match.group(7)
        path = _target(link, page)
        if path is None:
            return match.group(0)
        link = Path(os.path.relpath(site_path(path), here)).as_posix()
        return f"{before}{link}{match.group(3) or ''}{match.group(4) or after}"

    def titled(match: re.Match[str]) -> str:
        path = _target(match.group(2), page)
        title = TITLE.search(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None
        return match.group(0) if title is None else f"[{title.group(1)}]"

    return LINK.sub(replaced, FILE_NAME.sub(titled, text))


def site_path(path: Path) -> str:
    """Return where a file of the repository is in the site, relative to its root.

    Raises:
        PluginError: If it lies outside the repository.
    """
    path = Path(os.path.normpath(path))
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    if not path.is_relative_to(CHECKOUT):
        raise PluginError(f"{path} is linked to, and lies outside the repository.")
    return f"{OUTSIDE}/{path.relative_to(CHECKOUT).as_posix()}"


def _target(link: str, page: Path) -> Path | None:
    """Return the file that a link leads to; ``None`` for addresses and anchors."""
    if "://" in link or link.startswith(("mailto:", "#")):
        return None
    return Path(os.path.normpath(page.parent / link))
