"""The repository's own Markdown as pages of the site: links are written for the repository, and followed on both."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "explanation/architecture.md",
    "CONTRIBUTING.md": "developing/contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "developing/security.md",
}
"""Files at the top of the repository -> their pages. Files of other folders keep their paths."""
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|//)([^)\s#]+)(#[^)\s]*)?(?=\))")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add each file that a page of the repository links to, and what those pages link to in turn."""
    sources = {_in_repository(file.src_uri): file for file in files if file.src_uri.endswith(".md")}
    waiting = [*PAGES, *sources]
    while waiting:
        source = waiting.pop()
        if not (ROOT / source).is_file():  # a generated page, or a folder
            continue
        if source not in sources:
            sources[source] = _added(source, files, config)
        if source.endswith(".md"):
            waiting += [target for target in linked(source) if target not in sources]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead each link from the page's own place on the site."""
    source = _in_repository(page.file.src_uri)
    return LINK.sub(lambda link: _led(source, page.file.src_uri, *link.groups()), markdown)


def linked(source: str) -> list[str]:
    """The files of the repository that a Markdown file of it links to."""
    text = CODE.sub("", (ROOT / source).read_text())
    return [posixpath.normpath(posixpath.join(posixpath.dirname(source), target)) for target, _ in LINK.findall(text)]


def _added(source: str, files: Files, config: Any) -> File:
    uri = site_path(source)
    if found := files.get_file_from_path(uri):
        return found
    file = File.generated(config, uri, abs_src_path=str(ROOT / source))
    files.append(file)
    return file


def site_path(source: str) -> str:
    """Where a file of the repository is on the site."""
    return PAGES.get(source) or source.removeprefix("docs/")


def _in_repository(uri: str) -> str:
    """The file of the repository that a page of the site is made from."""
    elsewhere = (ROOT / uri).is_file() and not (ROOT / "docs" / uri).is_file()
    return SOURCES.get(uri) or (uri if elsewhere else f"docs/{uri}")


def _led(source: str, uri: str, target: str, anchor: str | None) -> str:
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return posixpath.relpath(site_path(there), posixpath.dirname(uri) or ".") + (anchor or "")
