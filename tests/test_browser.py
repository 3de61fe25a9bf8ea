"""The report in a real browser: nothing is said on its console, its slider moves the lines, a phone need not scroll."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from degradation.report.files import write
from degradation.study.results import Results
from tests.made_frames import make_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]

SLIDE = """
const slider = document.getElementById("step");
const state = () => ({
  value: Number(slider.value), shown: document.getElementById("step-shown").textContent,
  said: slider.getAttribute("aria-valuetext"), focused: document.activeElement === slider,
  lines: [...document.querySelectorAll("[data-moving] [data-line]")].map((line) => line.getAttribute("d")),
});
slider.focus();
const first = state();
slider.value = slider.max;
slider.dispatchEvent(new Event("input", {bubbles: true}));
const visible = (name) => document.querySelector(name).getClientRects().length > 0;
document.title = JSON.stringify({first, last: state(), slider: visible(".slider"), still: visible(".still")});
"""
WIDTHS = "parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')"
PHONE = """<!doctype html><title></title><iframe src="with.html" width="375" height="800"></iframe>
<script>onmessage = (event) => { document.title = JSON.stringify(event.data); }</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("runs"), depths=(8, 14), seeds=(0, 1), steps=32, experiments=False)
    return write(Results(folder), folder.path, ("degradation", "run", folder.name)).page


def opened(page: Path) -> tuple[Any, list[str]]:
    """What the page left as JSON in its title, and the lines of its console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    line = [str(CHROMIUM), *options, profile, "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"]
    found = subprocess.run([*line, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    titles = re.findall(r"<title>(.*?)</title>", found.stdout)
    text = titles[0].replace("&amp;", "&") if titles else ""
    return json.loads(text) if text[:1] in ("{", "[") else text, [
        x for x in found.stderr.splitlines() if "CONSOLE" in x
    ]


def with_script(page: Path, script: str, folder: Path) -> Path:
    copy = folder / "with.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    return copy


def test_the_console_stays_silent_and_would_not_after_an_error(page: Path, tmp_path: Path) -> None:
    assert opened(page)[1] == []
    assert opened(with_script(page, "nothing.there()", tmp_path))[1] != []


def test_the_slider_moves_every_line_and_says_its_step(page: Path, tmp_path: Path) -> None:
    said, console = opened(with_script(page, SLIDE, tmp_path))
    first, last = said["first"], said["last"]
    assert console == []
    assert first["focused"]
    assert (first["value"], first["shown"], first["said"]) == (0, "0", "step 0")
    assert (last["shown"], last["said"]) == ("32", "step 32")
    assert len(first["lines"]) == len(last["lines"]) == 8  # two depths, two kinds, two quantities
    assert all(before != after for before, after in zip(first["lines"], last["lines"], strict=True))
    assert said["slider"]
    assert not said["still"]


def test_what_the_slider_draws_is_what_the_page_draws_without_it(page: Path, tmp_path: Path) -> None:
    said, _ = opened(with_script(page, SLIDE, tmp_path))
    drawn = set(re.findall(r'data-line="[^"]*" d="([^"]*)"', page.read_text()))
    assert set(said["first"]["lines"]) | set(said["last"]["lines"]) <= drawn


def test_on_a_phone_the_page_is_no_wider_than_its_screen(page: Path, tmp_path: Path) -> None:
    with_script(page, WIDTHS, tmp_path)
    (tmp_path / "phone.html").write_text(PHONE)
    screen, content = opened(tmp_path / "phone.html")[0]
    assert screen == 375
    assert content <= screen
