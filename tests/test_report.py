"""The report of a study: one page that says everything, needs nothing, and is the same bytes for the same frames."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from degradation.analysis import analyse
from degradation.cli.reproduce import rerun
from degradation.errors import UserError
from degradation.figures import FIGURES, layout
from degradation.figures.curves import curves
from degradation.figures.depth import depth
from degradation.report import drawings
from degradation.report.captions import CAPTIONS
from degradation.report.drawings import inline
from degradation.report.effects import GAP, effects
from degradation.report.evolution import ChartLine, path
from degradation.report.files import ReportFiles, write
from degradation.report.marks import marks, marks_of
from degradation.report.pairs import proof
from degradation.report.rendering import escaped
from degradation.spec import Measure, StudyRecipe, StudySpec, grid
from degradation.store import StudyFolder
from degradation.study.results import Results, load
from tests.calling import CHECKOUT
from tests.made_frames import make_study, write_run

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"depths": (8, 14), "seeds": (0, 1), "steps": 32}
FEW: dict[str, Any] = SMALL | {"experiments": False}  # their figures take most of a report's time
EVIL = '<script>alert("x")</script> </style> & *one* | `two`'
VOID = {"meta", "input", "path", "use", "image", "br", "link"}


@dataclass
class Page(HTMLParser):
    """What a reader of the HTML finds: ids, references, headings with their level, landmarks, attributes, text."""

    ids: list[str] = field(default_factory=list)
    references: set[str] = field(default_factory=set)
    headings: list[int] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    outside: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        if "id" in given:
            self.ids.append(given["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for value in given.values():
            self.references |= set(re.findall(r"url\(#([^)]+)\)", value))
        for name in ("href", "src", "action", "data", "srcset"):
            if name in given and not given[name].startswith(("#", "data:")):
                self.outside.append(given[name])
            elif given.get(name, "").startswith("#"):
                self.references.add(given[name][1:])
        self.references |= set(given.get("aria-labelledby", "").split()) | ({given["for"]} if "for" in given else set())
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-label")):
            self.unnamed.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def reported(folder: StudyFolder) -> ReportFiles:
    return write(Results(folder), folder.path, ("degradation", "run", folder.name))


class ReadyToDraw(Exception):
    """The data of a figure are complete."""


def stop_drawing(*_: object, **__: object) -> None:
    raise ReadyToDraw


def without_drawing(draw: Callable[..., tuple[Figure, pd.DataFrame]]) -> Callable[..., tuple[None, None]]:
    """The figure's data are computed and its errors raised; drawing, most of the time, is tested elsewhere."""

    def computed(*args: object) -> tuple[None, None]:
        with pytest.raises(ReadyToDraw):
            draw(*args)
        return None, None

    return computed


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are empty: for tests of what a report says."""
    empty = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
    monkeypatch.setattr(drawings, "image", lambda *_: empty)
    for draw in ("figure_of", "gap"):
        monkeypatch.setattr(drawings, draw, without_drawing(getattr(drawings, draw)))
    monkeypatch.setattr(layout, "page", stop_drawing)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return reported(make_study(tmp_path_factory.mktemp("runs"), question=EVIL, **SMALL))


# The page


def test_the_page_asks_nothing_of_a_network(made: ReportFiles) -> None:
    page = parsed(made.page)
    assert page.outside == []
    assert "@import" not in made.page.read_text()
    assert "default-src 'none'" in made.page.read_text()


def test_every_id_stands_once_and_every_reference_leads_somewhere(made: ReportFiles) -> None:
    page = parsed(made.page)
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert page.references - set(page.ids) == set()
    assert len(page.references) > 50


def test_names_in_the_page_are_text_and_never_markup(made: ReportFiles) -> None:
    page = parsed(made.page)
    assert '<script>alert("x")' not in made.page.read_text()
    assert EVIL in page.text
    assert page.tags["script"] == 2  # the slider and its numbers


@pytest.mark.usefixtures("undrawn")
def test_numbers_embedded_for_the_slider_cannot_end_their_script(tmp_path: Path) -> None:
    folder = make_study(tmp_path, **FEW | {"depths": (8,), "seeds": (0,)})
    text = reported(folder).page.read_text()
    [numbers] = re.findall(r'<script type="application/json" id="numbers">(.*?)</script>', text, flags=re.DOTALL)
    assert "<" not in numbers


def test_the_page_has_a_language_landmarks_and_headings_in_order(made: ReportFiles) -> None:
    page = parsed(made.page)
    assert '<html lang="en">' in made.page.read_text()
    assert {page.tags[name] for name in ("header", "nav", "main", "footer", "h1")} == {1}
    assert page.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_every_figure_has_words_for_who_cannot_see_it(made: ReportFiles) -> None:
    page = parsed(made.page)
    assert page.unnamed == []
    assert (
        page.tags["figure"] == page.tags["figcaption"] == len(FIGURES) + 4
    )  # the answer's, the gap and two evolutions


def luminance(colour: str) -> float:
    """Relative luminance of ``#rgb`` or ``#rrggbb`` (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_has_the_contrast_of_level_aa_on_light_and_dark(made: ReportFiles) -> None:
    themes = re.findall(r":root\{(.*?)\}", made.page.read_text(), flags=re.DOTALL)
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", theme))
        for ground in ("paper", "panel"):
            for name in ("ink", "soft", "link", "label", "good", "bad", "open", "none"):
                dark, light = sorted((luminance(colours[name]), luminance(colours[ground])))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


def test_each_verdict_is_said_in_words_with_its_reason_threshold_and_source(made: ReportFiles) -> None:
    text = parsed(made.page).text
    for verdict in made.contents.analysis.verdicts:
        for words in (verdict.statement, verdict.why[1:], verdict.threshold, verdict.source, verdict.verdict):
            assert " ".join(words.split()) in text


def test_the_page_holds_every_estimate_and_every_caveat(made: ReportFiles) -> None:
    text = parsed(made.page).text
    assert all(estimate.label in text for estimate in made.contents.analysis.estimates)
    assert all(caveat.text in text for caveat in made.contents.analysis.caveats)


def test_the_same_frames_give_the_same_bytes(made: ReportFiles, tmp_path: Path) -> None:
    again = write(load(made.page.parent), tmp_path, made.contents.again)
    assert again.page.read_bytes() == made.page.read_bytes()
    assert again.twin.read_bytes() == made.twin.read_bytes()


def test_without_a_script_the_small_multiples_are_what_is_shown(made: ReportFiles) -> None:
    text = made.page.read_text()
    assert text.count('<div class="charts moving" hidden>') == text.count('<div class="charts still">') == 2
    assert text.count('<div class="slider" hidden>') == 1


# The Markdown twin


def test_the_twin_holds_every_verdict_and_escapes_names(made: ReportFiles) -> None:
    text = made.twin.read_text()
    assert "<script>" not in text
    assert "\\*one\\* \\| \\`two\\`" in text
    verdicts = made.contents.analysis.verdicts
    tested = [line for line in text.splitlines() if any(mark in line for mark in ("✓ **", "✗ **", "? **"))]
    folded = text[text.index("<details>") : text.index("</details>")]
    untested = [line for line in folded.splitlines() if "| Needs " in line or "| No measurement exists" in line]
    assert len(tested) == sum(verdict.verdict != "not measured" for verdict in verdicts)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in tested} == {7}
    assert len(tested) + len(untested) == len(verdicts)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in untested} == {5}
    assert all(any(escaped(verdict.statement) in line for line in text.splitlines()) for verdict in verdicts)


def test_the_figure_of_the_answer_has_a_point_for_each_arm_in_their_order_and_cuts_no_words_off(tmp_path: Path) -> None:
    arms: dict[str, Any] = {
        name: {"width": width} for width, name in ((1, "z-first"), (2, "a-very-long-name-of-an-arm"))
    }
    results = load(make_study(tmp_path, **FEW | {"arms": arms}).path)
    figure, data = effects(analyse(results).estimates, tuple(arms))
    assert list(data["arm"]) == ["z-first", "z-first", "a-very-long-name-of-an-arm", "a-very-long-name-of-an-arm"]
    gaps = {
        (each.context["arm"], each.context["kind"]): each for each in analyse(results).estimates if each.name == GAP
    }
    found = data.iloc[0]
    assert (found["gap"], found["low"]) == (gaps["z-first", "plain"].value, gaps["z-first", "plain"].low)
    figure.draw_without_rendering()
    for text in (*figure.texts, *figure.axes[0].get_yticklabels()):
        box = text.get_window_extent()
        assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1, text


@pytest.mark.usefixtures("undrawn")
def test_without_two_depths_there_is_no_figure_of_the_answer(tmp_path: Path) -> None:
    folder = make_study(tmp_path, **FEW | {"depths": (8,)})
    report = reported(folder)
    assert report.contents.summary is None
    assert "figure-answer" not in report.page.read_text()
    assert not (folder.path / "answer.png").exists()


def test_what_was_not_measured_and_equal_fields_are_folded(made: ReportFiles) -> None:
    page = made.page.read_text()
    unmeasured = sum(verdict.verdict == "not measured" for verdict in made.contents.analysis.verdicts)
    assert f"<details><summary>{unmeasured} claims that these measurements cannot judge" in page
    assert page.count("<details>") == page.count("</details>") == made.twin.read_text().count("</details>") == 2


def test_the_answer_has_its_figure_before_any_verdict(made: ReportFiles) -> None:
    page = made.page.read_text()
    assert page.index('id="answer"') < page.index('id="figure-answer"') < page.index('id="verdicts"')
    assert "![A point with its interval" in made.twin.read_text()
    assert (made.page.parent / "answer.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_twin_links_figures_that_lie_beside_it(tmp_path: Path) -> None:
    folder = make_study(tmp_path, **FEW | {"depths": (8,), "seeds": (0,)})
    folder.figures_path().mkdir()
    (folder.figures_path() / "depth.png").write_bytes(b"")
    text = reported(folder).twin.read_text()
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == ["figures/depth.png"]


def test_escaped_text_has_no_markup_left() -> None:
    assert escaped("a_b|<i>\n#1 [x](y)") == r"a\_b\|&lt;i&gt; \#1 \[x\](y)"


# The proof


def test_the_proof_shows_both_runs_values_of_each_pair(made: ReportFiles) -> None:
    results = load(made.page.parent)
    found = proof(results)
    assert [(row.depth, row.seed) for row in found.pairs] == [(8, 0), (8, 1), (14, 0), (14, 1)]
    facts = results["runs"].set_index("run_id")
    for row in found.pairs:
        assert row.weights == tuple(facts.loc[list(row.runs), "weight_hash"])
        assert row.parameters == tuple(facts.loc[list(row.runs), "parameters"])
    assert all(row.match.holds and not row.fields for row in found.pairs)
    assert {each.name for each in found.fields if not each.same} == {"network", "shortcut"}


def test_a_pair_whose_weights_differ_is_said_to_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_study(tmp_path, **SMALL | {"depths": (8,), "seeds": (0,)})
    own = StudyFolder.facts
    hashes = iter(range(100))
    monkeypatch.setattr(
        StudyFolder, "facts", lambda self, run_id: own(self, run_id) | {"weight_hash": f"{next(hashes):016x}"}
    )
    [row] = proof(Results(folder)).pairs
    assert row.weights_text == "DIFFERENT"
    assert not row.match.holds


# Studies that lack something


def text_of(folder: StudyFolder) -> str:
    return parsed(reported(folder).page).text


@pytest.mark.usefixtures("undrawn")
def test_a_diverged_run_is_named_and_its_order_not_compared(tmp_path: Path) -> None:
    text = text_of(
        make_study(tmp_path, steps=200, depths=(8,), seeds=(0, 1), diverged=[("plain", 8, 1)], experiments=False)
    )
    assert "1 of 4 done runs diverged" in text
    assert "not comparable: one of them diverged" in text


@pytest.mark.usefixtures("undrawn")
def test_one_seed_is_said_and_no_interval_given(tmp_path: Path) -> None:
    text = text_of(make_study(tmp_path, **FEW | {"seeds": (0,)}))
    assert "One seed: no number here has an interval" in text
    assert not re.search(r"points \[", text)


@pytest.mark.usefixtures("undrawn")
def test_plain_networks_alone_have_no_pair_and_no_branches(tmp_path: Path) -> None:
    text = text_of(make_study(tmp_path, **FEW, networks=("plain",)))
    assert "No matched pair has both runs done" in text
    assert "Only plain networks" in text
    assert "Figure branches needs a residual network" in text


@pytest.mark.usefixtures("undrawn")
def test_one_depth_says_nothing_of_depth(tmp_path: Path) -> None:
    assert "One depth: nothing here shows what more layers do" in text_of(
        make_study(tmp_path, **FEW | {"depths": (8,)})
    )


def test_without_probes_the_figures_say_what_they_lack_and_there_is_no_slider(tmp_path: Path) -> None:
    made = reported(make_study(tmp_path, **FEW, measure=Measure(probes=())))
    page = parsed(made.page)
    assert "Figure gradient-flow needs the probe 'gradients'" in page.text
    assert (page.tags["input"], page.tags["script"]) == (0, 0)
    assert "evolution" not in page.ids


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_study_names_what_is_not_done(tmp_path: Path) -> None:
    study = StudySpec(depths=(8, 14), seeds=(0,), recipe=StudyRecipe(steps=32))
    folder = StudyFolder(tmp_path, "half")
    folder.write_study(study.begun().model_dump(mode="json"))
    done, *others = grid.runs(study)
    write_run(folder, done)
    text = text_of(folder)
    assert "3 of 4 planned runs are not done" in text
    assert all(run.run_id in text for run in others)


def test_a_study_without_a_done_run_has_no_report(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "empty")
    folder.write_study(StudySpec().begun().model_dump(mode="json"))
    with pytest.raises(UserError, match="no run of empty is done"):
        reported(folder)
    assert not (folder.path / "report.html").exists()


# Published values


def labels(figure: Any) -> list[str]:
    return [str(found.get_label()) for axes in figure.axes for found in axes.containers]


def test_published_errors_are_marked_at_the_papers_schedule_and_never_at_a_shorter_one(tmp_path: Path) -> None:
    paper = Results(make_study(tmp_path, "paper", steps=64_000, depths=(20,), seeds=(0,), measure=Measure(probes=())))
    short = Results(make_study(tmp_path, "short", steps=63_999, depths=(20,), seeds=(0,), measure=Measure(probes=())))
    assert analyse(short).compared
    assert marks(short) == marks_of(analyse(short).compared) == ()
    assert {mark.depth for mark in marks(paper)} == {20}
    assert {"published test", "published train_running"} <= set(labels(curves(paper, marks(paper))[0]))
    assert set(labels(depth(paper, marks(paper))[0])) == {"published test"}
    assert labels(curves(short, marks(short))[0]) == []


def test_a_mark_lies_at_its_error_and_inside_the_axes(tmp_path: Path) -> None:
    paper = Results(make_study(tmp_path, steps=64_000, depths=(20, 44), seeds=(0,), measure=Measure(probes=())))
    [plain] = [mark for mark in marks(paper) if (mark.depth, mark.split, mark.network) == (44, "test", "plain")][:1]
    figure, _ = curves(paper, marks(paper))
    drawn = [bar.lines[0].get_xydata()[0] for axes in figure.axes for bar in axes.containers]
    assert (64_000, plain.error) in [tuple(point) for point in drawn]
    assert all(point[1] <= figure.axes[0].get_ylim()[1] for point in drawn)


# One drawing


def test_an_inlined_drawing_keeps_its_references_and_loses_what_a_page_has_already() -> None:
    svg = b"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
      width="9pt" height="9pt" viewBox="0 0 9 9"><metadata>m</metadata><style>*{}</style>
      <defs><path id="p" d="M 0.123456 1
      L 2 3"/><clipPath id="c"/></defs><g id="unused" clip-path="url(#c)"><use xlink:href="#p"/></g></svg>"""
    text = inline(svg, prefix="a-", alt="x")
    for kept in ('id="a-p"', 'id="a-c"', '"url(#a-c)"', 'href="#a-p"', 'd="M 0.12 1 L 2 3"', 'aria-label="x"'):
        assert kept in text
    assert not any(gone in text for gone in ("unused", "metadata", "style", "9pt", "<?xml"))


def test_a_line_has_a_gap_where_nothing_was_measured() -> None:
    line = ChartLine(key="", name="", end="", colour="", dash="", x=(1, 2, 3, 4, 5), y=((None, 2, None, 4.5, 5),))
    assert path(line, 0) == "M2 2M4 4.5L5 5"


def test_every_figure_has_a_caption() -> None:
    assert set(CAPTIONS) == {*FIGURES, "gap", "answer"}


@pytest.mark.parametrize("study", sorted(path.parent.name for path in (CHECKOUT / "reports").glob("*/study.json")))
@pytest.mark.usefixtures("undrawn")
def test_the_committed_report_says_what_its_frames_say(tmp_path: Path, study: str) -> None:
    folder = CHECKOUT / "reports" / study
    (tmp_path / "figures").symlink_to(folder / "figures")
    results = load(folder)
    written = write(results, tmp_path, rerun(results.name, results.study, results.provenance))
    told = f"it is out of date: degradation report reports/{study}"
    assert written.twin.read_text() == (folder / "report.md").read_text(), told
