"""What .github and pre-commit run is there: files parse, commands exist, extras have their packages."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
FORMS = sorted(set(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"})
BROUGHT = {"mkdocs": "docs", "ruff": "test", "mypy": "test", "pytest": "test"}
"""A command, or a module behind ``python -m``, and the extra of which it is a package."""


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def jobs() -> dict[str, Any]:
    return {name: job for path in WORKFLOWS for name, job in parsed(path)["jobs"].items()}


def commands(job: Any) -> Iterator[list[str]]:
    for step in job["steps"]:
        for line in step.get("run", "").splitlines():
            yield shlex.split(line)


def packages(extra: str) -> set[str]:
    return {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in EXTRAS[extra]}


def asked(job: Any) -> set[str]:
    """The extras that a job installs."""
    words = [word for command in commands(job) if "install" in command for word in command]
    return {extra for word in words if word.startswith(".[") for extra in word[2:-1].split(",")}


@pytest.mark.parametrize("name", ["tests", "lint", "docs"])
def test_a_job_installs_what_it_calls(name: str) -> None:
    job = jobs()[name]
    extras = asked(job)
    assert extras
    assert extras <= set(EXTRAS)
    for command in commands(job):
        tool = command[2] if command[:2] == ["python", "-m"] else command[0]
        if tool != "pip":
            assert BROUGHT[tool] in extras
            assert tool in packages(BROUGHT[tool])


def test_the_tests_run_on_every_python_that_the_package_names() -> None:
    matrix = jobs()["tests"]["strategy"]["matrix"]
    named = [each.rsplit(" ", 1)[1] for each in PYPROJECT["project"]["classifiers"] if "Python :: 3." in each]
    assert matrix["python"] == named
    assert {"system": "macos-latest", "python": "3.12"} in matrix["include"]


def test_a_workflow_may_read_and_nothing_else() -> None:
    assert WORKFLOWS
    assert all(parsed(path)["permissions"] == {"contents": "read"} for path in WORKFLOWS)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_a_form_needs(path: Path) -> None:
    form = parsed(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_files_that_the_forms_name_are_there() -> None:
    assert len(FORMS) == 3
    for path in [*FORMS, ROOT / ".github/PULL_REQUEST_TEMPLATE.md"]:
        named = re.findall(r"\b[\w/]+\.md\b", path.read_text())
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_pre_commit_calls_commands_that_are_there() -> None:
    local = [repo for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] if repo["repo"] == "local"]
    called = {hook["entry"].split()[0] for repo in local for hook in repo["hooks"]}
    assert called == {"ruff", "mypy"}
    assert called <= packages("test")
