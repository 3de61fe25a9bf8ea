"""Imports between packages, modules without torch, and words that must not return."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "degradation"

# Packages from the bottom up: a module imports from its own package or from those in lower layers.
LAYERS = [
    {"errors", "_version", "frames"},
    {"spec", "store"},
    {"networks", "runtime"},
    {"data", "probes"},
    {"study", "training"},
    {"analysis", "experiments", "figures", "launchers"},
    {"recording", "report"},
    {"cli"},
    {"__init__", "__main__"},
]
TORCH_FREE = ["spec", "spec.grid", "spec.schedules", "frames.schemas", "store", "study.results", "study.library"]
TORCH_FREE += ["figures", "analysis", "report", "launchers.runner", "cli.app"]


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Packages of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "degradation":
            below = (node.module or "").split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("degradation.")}
    return found - {"__version__"}


def code(path: Path) -> str:
    """A file without the docstrings of its functions and classes."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line for line, before in zip(lines, text.splitlines(), strict=True) if line or not before)


FILES = sorted(PACKAGE.rglob("*.py"))
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def test_every_package_has_a_layer():
    assert {package_of(path) for path in FILES} - set(LAYER) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward_only(path):
    upward = {name for name in imported(path) if name != package_of(path) and LAYER[name] >= LAYER[package_of(path)]}
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_a_sentence_and_stays_small(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(code(path).splitlines()) <= 300


@pytest.mark.slow
def after_docstring(node: ast.FunctionDef) -> int:
    """The line on which a function's code begins."""
    return node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno


def test_no_function_is_longer_than_sixty_lines():
    long = [
        f"{path.name}:{node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - after_docstring(node) >= 60
    ]
    assert not long


@pytest.mark.slow
def test_the_reading_half_does_not_import_torch():
    imports = "; ".join(f"import degradation.{name}" for name in TORCH_FREE)
    used = "degradation.StudySpec, degradation.load; assert 'torch' not in sys.modules"
    code = f"import sys, degradation; {imports}; {used}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_module_types_are_looked_at_in_one_place():
    # Drawing weights goes by type too: it makes the modules' content, it does not interpret strangers' networks.
    found = re.compile(r"isinstance\(.*\bnn\.|\bnn\..*isinstance\(", re.DOTALL)
    looking = {path.relative_to(PACKAGE).as_posix() for path in FILES if found.search(code(path))}
    assert looking <= {"networks/layout.py", "networks/weights.py"}


@pytest.mark.slow
@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md"])
def test_files_that_the_documents_name_are_there(document):
    root = PACKAGE.parent
    named = re.findall(r"`([\w/]+\.(?:py|toml|md))", (root / document).read_text())
    there = {path.relative_to(root).as_posix() for path in root.glob("*/**/*") if ".venv" not in path.parts}
    lost = [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)]
    assert [name for name in lost if not (root / name).exists()] == []


WORDS = ["anybody", "beside", "carry_out", "for ever", "foreseen", "hardly", "heard", "laid to", "mechanism"]
WORDS += ["nobody", "said", "settle", "settled", "somebody", "speaks", "standing", "standings", "stands over"]
WORDS += ["statistics_of", "survey", "surveyed", "whoever", "whom"]
"""Words and names of our own that standard ones took the place of."""
FREE = {"degradation/cli/app.py": "mechanism", "degradation/store/filenames.py": "mechanism"}
"""Files with a word of version 0.1, which studies on disk and scripts of users still have."""


def test_words_of_our_own_do_not_return():
    root = PACKAGE.parent
    written = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".toml", ".md", ".html"}]
    written += [*root.glob("docs/**/*.md"), *root.glob("studies/*"), root / "README.md", root / "ARCHITECTURE.md"]
    banned = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
    found = [
        f"{name}: {word}"
        for path in written
        for word in {match.lower() for match in banned.findall(path.read_text())}
        if FREE.get(name := path.relative_to(root).as_posix()) != word
    ]
    assert found == []
