"""`python -m benchmarks`: the tables on the screen and in Markdown, everything in JSON, one figure."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.drawing import draw
from benchmarks.floors import ceilings
from benchmarks.sections import SECTIONS, Bench
from benchmarks.subjects import data
from degradation.runtime.environment import Options, choose_environment, cores, provenance

OUT = Path(__file__).parent / "results"
STEPS = {"cpu": 2, "cuda": 100}  # of one turn


def main(
    sections: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SECTIONS)}; none: all.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="Processor threads.")] = cores(),
    rounds: Annotated[int, typer.Option(help="Turns of each of what is compared.")] = 7,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the CIFAR-10 files.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the tables, the JSON and the figure.")] = OUT,
) -> None:
    """Measure on this machine; nothing else should run on it meanwhile."""
    options = Options(device=device, threads=threads)  # type: ignore[arg-type]
    environment = choose_environment(options, "fp32", 1)
    environment.enter()
    dataset, images = data(data_dir)
    bench = Bench(
        dataset=dataset,
        images=images,
        environment=environment,
        data_dir=data_dir,
        rounds=rounds,
        steps=STEPS[environment.device],
    )
    facts = {"date": datetime.now(UTC).date().isoformat(), "data": dataset.name, "rounds": rounds}
    facts |= provenance(environment) | {"ceilings": asdict(ceilings(bench.device))}
    out.mkdir(parents=True, exist_ok=True)
    for name in sections or SECTIONS:
        rows = SECTIONS[name](bench)
        table = pd.DataFrame(rows).dropna(axis=1, how="all")
        typer.echo(f"\n{name}\n{table.round(2).to_string(index=False)}")
        stem = out / f"{environment.device}-{name}"
        stem.with_suffix(".json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(table))
        if name == "costs":
            draw(rows, f"Cost of a training step on {facts['device_name']}, fp32", stem.with_suffix(".png"))


def markdown(table: pd.DataFrame) -> str:
    """The table as GitHub shows it, numbers to three digits."""
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [[cell(value) for value in row] for row in table.to_numpy()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(value: object) -> str:
    """A number to three digits, a text as it is, nothing where nothing was measured."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    typer.run(main)
