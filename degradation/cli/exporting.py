"""The frames of a study -> one file each, CSV or parquet."""

from collections.abc import Iterator
from pathlib import Path

from degradation.errors import UseError
from degradation.frames.schemas import to_csv, to_parquet
from degradation.store import Place, store_at
from degradation.study.results import Results


def export_frames(results: Results, format: str, folder: str | Path) -> Iterator[Place]:
    """Write every frame that has rows as ``NAME.csv`` or ``NAME.parquet``; yields the paths.

    Raises UseError where no run is done, or where the folder cannot be written.
    """
    if not results.run_ids:
        raise UseError(f"no run of {results.name} is done: there is nothing to export yet")
    store = store_at(folder)
    for name, data in results.items():
        if len(data):
            file = f"{name}.{format}"
            content = to_csv(data) if format == "csv" else to_parquet(data, results.provenance)
            store.write(file, content)
            yield store.root / file
