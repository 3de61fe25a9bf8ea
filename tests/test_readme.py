"""The README's own Python and commands, so that what a reader copies works."""

import re
import shlex
from pathlib import Path

import pytest

from degradation.cli.app import app
from degradation.study import library
from tests.calling import Command, command  # noqa: F401
from tests.test_docs import pages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDES = {path.stem: path.read_text() for path in sorted(ROOT.glob("docs/**/*.md"))}
PAGES = "\n".join([README, *GUIDES.values()])
"""All that holds commands and Python to copy."""
GENERATED = {ROOT / "docs" / page for page in pages.PAGES}
"""Pages that are made when the site is built."""


def blocks(language: str, text: str = README) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands() -> list[str]:
    lines = "\n".join(blocks("", PAGES)).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("degradation ")]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, further = blocks("python", GUIDES["python"])
    assert code == blocks("python")[0]
    shorter = code.replace("steps=100", "steps=2").replace("step == 100", "step == 2")
    shorter = shorter.replace("Synthetic()", "Synthetic(examples=256, test_examples=128)")
    assert shorter.count("step == 2") == shorter.count("examples=256") == 1
    said = {}
    exec(compile(shorter, "README.md", "exec"), said)
    assert list(said["last"].groupby("network").size()) == [4, 4]
    exec(compile(further, "python.md", "exec"), said)
    runs = said["results"]["runs"].set_index(["depth", "seed", "network"])
    for pair in [(8, 0), (8, 1), (20, 0), (20, 1)]:
        assert runs.loc[(*pair, "plain"), "weight_hash"] == runs.loc[(*pair, "residual"), "weight_hash"]


def test_the_loop_of_the_readme_is_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _ = blocks("python", GUIDES["record"])
    assert code == blocks("python")[1]
    said = {}
    exec(compile(code, "README.md", "exec"), said)
    assert list(said["responses"]["step"].unique()) == [0, 2, 4]
    assert capsys.readouterr().out.startswith("21 layers, 3 measured steps")
    assert Path("recorded.png").stat().st_size > 0


def test_the_transformer_of_the_readme_is_recorded(capsys):
    *_, code = blocks("python", GUIDES["record"])
    said = {}
    exec(compile(code, "README.md", "exec"), said)
    names = set(said["rec"].frame("gradients")["name"])
    assert names == {f"1.layers.{n}.{part}" for n in range(3) for part in ("linear1", "linear2", "norm1", "norm2")}
    assert "weight_grad_norm" in capsys.readouterr().out


def test_the_python_of_all_other_pages_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for name, page in GUIDES.items():
        for code in blocks("python", page) if name not in ("python", "record") else ():
            exec(compile(code, f"{name}.md", "exec"), {})
    assert capsys.readouterr().out.count("0.0") > 3  # the last errors of a network that learnt the digits


def test_the_commands_of_the_readme_are_those_that_exist():
    known = {info.name or info.callback.__name__ for info in app.registered_commands}
    used = {shlex.split(line)[1] for line in commands()}
    assert used == known


@pytest.mark.parametrize("line", [line for line in commands() if shlex.split(line)[1] == "run"])
def test_what_the_readme_runs_can_be_planned(command, line):  # noqa: F811
    arguments = ["plan", *shlex.split(line)[2:]]
    if "my-study.toml" in arguments:
        Path("my-study.toml").write_text('question = "?"\n')
    if "--budget" in arguments:
        pytest.skip("a budget is spent on timed steps")
    if any("://" in argument for argument in arguments):
        pytest.skip("a plan looks at what is in the store")
    assert command(*arguments).status == 0


def test_every_study_that_ships_stands_in_the_table():
    assert set(re.findall(r"^\| `([\w-]+)` \|", GUIDES["studies"], flags=re.MULTILINE)) == set(library.shipped())


def test_the_readme_holds_two_commands_that_set_everything_up():
    assert [line.count(".venv/bin/pip install") for line in "".join(blocks("bash")).splitlines()] == [1, 1]


def test_links_lead_to_files_that_are_there_and_the_readme_names_every_page():
    written = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "reports/README.md", *ROOT.glob("docs/**/*.md")]
    for page in written:
        links = re.findall(r"\]\(([^)#\s]+)[)#]", page.read_text())
        targets = {link: (page.parent / link).resolve() for link in links if "://" not in link}
        lost = [link for link, target in targets.items() if not target.exists() and target not in GENERATED]
        assert not lost, page
    named = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert all(f"({name})" in README for name in named)


def test_the_readme_is_read_in_minutes_and_begins_with_the_quickstart():
    assert len(README.splitlines()) <= 150
    first, *_ = re.findall(r"^```\w*\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert first.strip().endswith("degradation run quickstart")
