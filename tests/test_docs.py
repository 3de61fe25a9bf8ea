"""The site: every page is in its map, links lead to what is there, and generated pages are whole."""

import doctest
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import degradation
from degradation.analysis.claims import claims
from degradation.cli.app import app
from degradation.frames import schemas
from degradation.study import library
from degradation.study.results import Results

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
links: Any = pytest.importorskip("links")
pages: Any = pytest.importorskip("pages")
MAP = (ROOT / "mkdocs.yml").read_text()
WRITTEN = sorted(path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md"))


def text(page: str) -> str:
    return "\n".join(pages.PAGES[page]())


@pytest.mark.parametrize("page", [*WRITTEN, *pages.PAGES, *links.PAGES.values()])
def test_every_page_is_in_the_map(page):
    assert re.search(rf": {re.escape(page)}$", MAP, flags=re.MULTILINE)


def test_a_link_of_the_repository_leads_to_the_same_page_of_the_site():
    led = links._led("docs/guides/studies.md", "guides/studies.md", "../../reports/width/report.md", None)
    assert led == "../reports/width/report.md"
    assert links._led("README.md", "index.md", "docs/measured.md", "#speed") == "measured.md#speed"
    assert links._led("ARCHITECTURE.md", "explanation/architecture.md", "README.md", None) == "../index.md"


def test_the_command_line_has_every_option_of_every_command():
    found = text("reference/command-line.md")
    group: Any = typer.main.get_command(app)
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", found, flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == list(group.commands)
    for name, command in group.commands.items():
        for parameter in command.params:
            assert f"<code>{pages._names(parameter)}".split(" ")[0] in sections[name]


def test_every_column_is_there_and_says_what_it_is():
    found = text("reference/frames.md")
    for name, columns in schemas.SCHEMAS.items():
        section = found.split(f"## {name}\n")[1].split("\n## ")[0]
        for column, kind in columns.items():
            assert re.search(rf"^\| `{column}` \| {kind} \| \S", section, flags=re.MULTILINE)
    responses = found.split("## responses\n")[1].split("\n## ")[0]
    assert "train_batch" in responses  # its own note, not that of the frame before it


def test_every_claim_has_its_statement_and_threshold():
    found = text("reference/claims.md")
    for claim in claims():
        section = found.split(f"## {claim.id}\n")[1].split("\n## ")[0]
        assert claim.statement in section
        assert not claim.estimate or f"| supported | {claim.supports} {claim.threshold:g} |" in section


def test_the_gallery_shows_every_study_and_the_answer_of_each_report():
    found = text("gallery.md")
    for name, path in library.shipped().items():
        section = found.split(f"## {name}\n")[1].split("\n## ")[0]
        assert library.question(path) in section
        assert (f"reports/{name}/answer.png" in section) == (ROOT / "reports" / name / "report.md").is_file()


def test_every_public_name_says_what_it_takes_returns_and_raises_and_its_examples_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    functions = [degradation.run, degradation.load, degradation.record, degradation.verdicts, degradation.network]
    functions.append(Results.frame)
    for each in [*functions, degradation.StudySpec]:
        sections = re.findall(r"^ *(\w+)\n *-{3,}$", each.__doc__ or "", flags=re.MULTILINE)
        returns = ["Returns"] if each in functions else []
        assert [name for name in sections if name != "Notes"] == ["Parameters", *returns, "Raises", "Examples"]
        assert doctest.DocTestRunner(verbose=False).run(examples_of(each)).failed == 0


def examples_of(each: Any) -> doctest.DocTest:
    return doctest.DocTestParser().get_doctest(each.__doc__ or "", {}, each.__name__, None, None)
