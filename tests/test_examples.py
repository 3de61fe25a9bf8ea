"""The notebooks of examples/ run as they are, on smaller settings, and are committed as they ran."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.made_frames import make_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "1-degradation-in-ten-minutes": "DEPTHS, SEEDS, STEPS, JOBS = (8,), (0,), 2, 1",
    "2-my-own-network": "STEPS, LAYERS = 12, 6",
    "3-a-finished-study-with-pandas": "STUDY = 'runs/made'",
}
"""What takes the place of the cell tagged ``parameters``."""
PATHS = ("/home/", "/root/", "/tmp/", "/Users/", "C:\\", "site-packages")


def notebook(name: str) -> NotebookNode:
    return nbformat.read(ROOT / f"examples/{name}.ipynb", as_version=4)


def code(book: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_every_notebook_is_run_here() -> None:
    assert {path.stem for path in ROOT.glob("examples/*.ipynb")} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_notebook_runs_without_a_warning(name: str, tmp_path: Path) -> None:
    book = notebook(name)
    [parameters] = [cell for cell in code(book) if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = SETTINGS[name]
    if "runs/made" in parameters.source:
        make_study(tmp_path / "runs", depths=(8, 20), seeds=(0, 1))
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    outputs = [output for cell in code(book) for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    for cell in code(book):
        if "degradation.run(" in cell.source:
            progress, results = cell.outputs
            assert progress.data["text/plain"].startswith("2 of 2 runs done in 0:")
            assert "2 of 2 runs done" in results.data["text/html"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_notebook_is_committed_as_it_ran(name: str) -> None:
    text = (ROOT / f"examples/{name}.ipynb").read_text()
    assert len(text.encode()) < 400_000
    assert [path for path in PATHS if path in text] == []
    cells = code(notebook(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert all("execution" not in cell.metadata for cell in cells)
