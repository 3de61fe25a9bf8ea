"""Frames -> scalars of TensorBoard, by torch's own writer."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from degradation.errors import UserError
from degradation.probes import PROBE_REGISTRY


def write_scalars(frames: Mapping[str, pd.DataFrame], folder: str | Path) -> None:
    """One scalar ``frame/column/layer`` for each number, by step; missing ones are omitted.

    Raises UserError if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"TensorBoard is needed to write its scalars ({error}): pip install tensorboard") from error
    with SummaryWriter(str(folder)) as writer:
        for name, frame in frames.items():
            for column in PROBE_REGISTRY[name].columns:
                for row in frame[["step", "name", column]].dropna().itertuples(index=False):
                    writer.add_scalar(f"{name}/{column}/{row[1]}", row[2], row[0])


def write_new(frames: Mapping[str, pd.DataFrame], steps: set[int], written: set[int], folder: str | Path) -> None:
    """The steps not yet ``written``, which are added to it; UserError if there is none at all."""
    if not steps:
        raise UserError("nothing to write: no step was recorded")
    new = {name: frame[~frame["step"].isin(written)] for name, frame in frames.items()}
    write_scalars(new, folder)
    written |= steps
