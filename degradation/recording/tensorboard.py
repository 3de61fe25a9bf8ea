"""Frames -> scalars of TensorBoard, by torch's own writer."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from degradation.errors import UserError
from degradation.probes import PROBE_REGISTRY


def write_new(frames: Mapping[str, pd.DataFrame], steps: set[int], written: set[int], folder: str | Path) -> None:
    """Write one scalar ``frame/column/layer`` for each number of the steps not yet ``written``, and add these to it.

    Raises UserError if there is no step, or if TensorBoard is not installed.
    """
    if not steps:
        raise UserError("nothing to write: no step was recorded")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"TensorBoard is needed to write its scalars ({error}): pip install tensorboard") from error
    with SummaryWriter(str(folder)) as writer:
        for name, frame in frames.items():
            new = frame[~frame["step"].isin(written)]
            for column in PROBE_REGISTRY[name].columns:
                for row in new[["step", "name", column]].dropna().itertuples(index=False):
                    writer.add_scalar(f"{name}/{column}/{row[1]}", row[2], row[0])
    written |= steps
