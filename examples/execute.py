"""Run notebooks of this folder, all or those that are named, and keep their outputs: ``python examples/execute.py``."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run a notebook in its own folder and write it back, without times of day: these would differ each time."""
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=3600, record_timing=False, resources={"metadata": {"path": str(HERE)}}).execute()
    nbformat.write(book, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        execute(Path(name))
