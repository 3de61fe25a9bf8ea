"""The rows of the section `costs` -> a figure: time and peak memory against depth and against batch."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from degradation.figures.style import COLOURS, styled


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Write the figure to ``path``; its suffix chooses the format."""
    data = pd.DataFrame(rows)
    parts = {
        "depth": (data[data.batch == 128], "depth, at batch 128"),
        "batch": (data[data.depth == 20], "batch, at depth 20"),
    }
    with styled():
        figure = Figure(figsize=(8, 6), layout="constrained")
        axes = figure.subplots(2, 2, sharex="col")
        for column, (name, (part, label)) in enumerate(parts.items()):
            for row, quantity in enumerate(("ms a step", "peak MiB")):
                axis = axes[row][column]
                for network, lines in part.sort_values(name).groupby("network"):
                    axis.plot(lines[name], lines[quantity], "o-", color=COLOURS[str(network)], label=network)
                axis.set_ylabel(quantity)
                axis.set_ylim(bottom=0)
                axis.set_xticks(sorted(part[name].unique()))
                axis.set_xlabel(label if row else "")
        axes[0][0].legend()
        figure.suptitle(title)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
