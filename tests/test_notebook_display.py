"""What a notebook shows of results, verdicts and a recording: escaped tables in the notebook's own colours."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

import degradation
from degradation.errors import UserError
from degradation.frames import notebook_html
from degradation.recording import Recorder
from tests.made_frames import make_study

EVIL = '<script>alert("1")</script>'


class Balance(HTMLParser):
    """Counts open elements, and keeps the text of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def cells(html: str) -> list[str]:
    """The texts of the cells of a piece of HTML that is well formed, has no script and no colour."""
    found = Balance()
    found.feed(html)
    assert found.open == []
    assert not re.search(r"color|background|<script|class=", html)
    return found.cells


def test_a_table_escapes_what_it_is_given() -> None:
    html = notebook_html.heading(EVIL, EVIL) + notebook_html.lines([EVIL]) + notebook_html.table([EVIL], [[EVIL]])
    html += notebook_html.folded(EVIL, "")
    assert cells(html) == [EVIL, EVIL]
    assert html.count("&lt;script&gt;") == 6


def test_results_show_their_question_and_which_runs_are_done(tmp_path: Path) -> None:
    folder = make_study(tmp_path, depths=(8, 20), seeds=(0, 1), shortcuts=("A", "B"), question=f"Why {EVIL}?")
    (folder.run_path(next(name for name in folder.run_ids() if name.startswith("plain-20"))) / "done.json").unlink()
    (folder.run_path(next(name for name in folder.run_ids() if name.startswith("plain-20"))) / "facts.json").unlink()
    html = degradation.load(folder.path)._repr_html_()
    assert cells(html) == [
        *("seeds done", "depth 8", "depth 20"),
        *("plain", "2 of 2", "1 of 2"),
        *("residual A", "2 of 2", "2 of 2"),
        *("residual B", "2 of 2", "2 of 2"),
    ]
    assert "Study made</b>: 11 of 12 runs done" in html
    assert "Why &lt;script&gt;" in html


def test_results_of_a_study_with_arms_have_a_row_for_each(tmp_path: Path) -> None:
    arms = {"wide": {"width": 2}, "narrow": {}}
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), networks=("plain",), arms=arms, experiments=False)
    shown = cells(degradation.load(folder.path)._repr_html_())
    assert shown == ["arm", "seeds done", "depth 8", "wide", "plain", "1 of 1", "narrow", "plain", "1 of 1"]


def test_verdicts_are_one_line_of_python_and_a_table(tmp_path: Path) -> None:
    results = degradation.load(make_study(tmp_path, depths=(20, 44), seeds=(0, 1, 2)).path)
    found = degradation.verdicts(results)
    judged = [each for each in found if each.verdict != "not measured"]
    shown = cells(found._repr_html_())
    assert shown[:3] == ["statement", "verdict", "why"]
    assert shown[3:] == [text for each in judged for text in (each.statement, each.verdict, each.why)]
    assert list(found.frame["claim"]) == [each.claim for each in found]
    assert repr(found) == f"<Verdicts on made: {len(judged)} of {len(found)} claims measured>"
    assert str(found).startswith(found.answer[0])
    assert found[0] is next(iter(found))
    assert len(found[1:]) == len(found) - 1


def test_verdicts_are_refused_for_what_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results: expected what degradation.load\(\"runs/NAME\"\) returns, not 5"):
        degradation.verdicts(5)  # type: ignore[arg-type]
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), networks=("plain",), experiments=False)
    (folder.run_path(folder.run_ids()[0]) / "done.json").unlink()
    (folder.run_path(folder.run_ids()[0]) / "facts.json").unlink()
    with pytest.raises(UserError, match="no run of made is done"):
        degradation.verdicts(degradation.load(folder.path))


def recorded(scale: float) -> Recorder:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(16, 16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16, 2))
    for weight in model.parameters():
        weight.data.mul_(scale)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with degradation.record(model, every=1) as rec:
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(32, 16)), torch.randint(0, 2, (32,))).backward()
            optimizer.step()
    return rec


def test_a_recording_shows_its_findings_as_a_table_and_the_rest_of_its_summary() -> None:
    rec = recorded(0.3)
    html = rec._repr_html_()
    assert rec.findings
    assert cells(html)[3:] == [text for one in rec.findings for text in (one.kind, one.text, one.try_)]
    head = rec.summary().splitlines()[0]
    assert html.startswith(f"<div><b>Recording: </b>{head}</div>")
    assert "  try: " not in html
    assert repr(rec) == f"<Recorder: {head}>"


def test_a_recording_that_was_never_entered_shows_that() -> None:
    html = degradation.record(nn.Linear(2, 2))._repr_html_()
    assert cells(html) == []
    assert "the recording was never entered" in html
