"""The command `probe`: a file of trained weights -> its test error, frames, a figure and a table."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from degradation import spec
from degradation.cli.exit_codes import DONE
from degradation.cli.options import DATASETS, value
from degradation.cli.validators import positive
from degradation.errors import UserError
from degradation.runtime.environment import DEVICES, Options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from degradation.experiments.probe_weights import ProbeResult
    from degradation.store import Place

Channels = tuple[float, float, float]

NORMALIZATIONS: dict[str, tuple[Channels, Channels] | None] = {
    "paper": None,
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of each channel, for pixels of 0..1, as the public sources have them."""
ASKED = "asked.json"
"""File next to the frames: hash of the weights, and the options."""
FIGURES = ("probe.png", "probe.svg")
SUSPECT = 0.5  # above this test error the file was probably not read correctly


def probe(
    weights: Annotated[Path, value("FILE", "Safetensors, or a state dict saved by torch.")],
    network: Annotated[str | None, value("plain|residual", "Kind of network (default: the file's).")] = None,
    depth: Annotated[str | None, value("N", "Weighted layers, 6n+2 (default: the file's).")] = None,
    shortcut: Annotated[str | None, value("A|B|C", "Of a residual network (default: the file's).")] = None,
    dataset: Annotated[str, value("|".join(DATASETS), "Data set.")] = "cifar10",
    normalize: Annotated[
        str | None,
        value(
            "paper|cifar|imagenet|a,b,c/d,e,f",
            "paper: minus the mean image; else (pixel - mean) / std by channel: cifar is 0.4914, 0.4822, 0.4465 / "
            "0.2023, 0.1994, 0.2010 and imagenet 0.485, 0.456, 0.406 / 0.229, 0.224, 0.225. Default: that of the file, "
            "else paper.",
        ),
    ] = None,
    batch: Annotated[str, value("N", "Training images to measure responses on.")] = "128",
    eval_examples: Annotated[str | None, value("N", "Test images (default: all).")] = None,
    format: Annotated[str, value("csv|parquet", "File format of the frames.")] = "parquet",
    out: Annotated[str | None, value("DIR", "Default: probes/FILE, or probes/RUN.")] = None,
    device: Annotated[str, value("|".join(DEVICES), "Device to compute on.")] = "auto",
    data_dir: Annotated[Path | None, value("DIR", "Folder of the CIFAR-10 files.")] = None,
) -> int:
    """Measure the test error, responses and gradients of trained weights, from a run or of a public CIFAR ResNet."""
    channels = channels_of(normalize or "paper")
    if format not in ("csv", "parquet"):
        raise UserError(f"--format: expected csv or parquet, not {format!r}")
    if dataset not in DATASETS:
        raise UserError(f"--dataset: expected {' or '.join(DATASETS)}, not {dataset!r}")
    if device not in DEVICES:
        raise UserError(f"--device: expected {', '.join(DEVICES)}, not {device!r}")
    size, examples = positive("--batch", batch), positive("--eval-examples", eval_examples)

    from degradation.cli.console import console
    from degradation.data import load_images, resident
    from degradation.experiments.probe_weights import Prober, normalization
    from degradation.networks.reading import network_of
    from degradation.networks.weight_files import read_weights
    from degradation.runtime.environment import choose_environment, provenance
    from degradation.store import store_at

    read = read_weights(weights)
    if read.channels and normalize:
        raise UserError(f"--normalize: {weights} holds its own mean and std: remove the option")
    normalize = normalize or ("file" if read.channels else "paper")
    trained = network_of(read, network=network, depth=depth, shortcut=shortcut)
    options = {"network": trained.what, "normalize": normalize, "dataset": dataset}
    identity = _identity(weights, options | {"batch": size, "eval_examples": examples})
    folder = out or _default_folder(weights, identity)
    _check_writable(folder, format)
    environment = choose_environment(Options(device=device, capture=False), "fp32", 1)
    environment.enter()
    images = resident(load_images(spec.DATASETS[dataset](), data_dir))
    prober = Prober(
        images=images,
        normalization=normalization(read.channels or channels, images, read, environment.torch_device),
        environment=environment,
        step=read.step,
        batch=size or 128,
        examples=examples,
    )
    result = prober(trained.network)
    screen = console()
    screen.print(table_of(result.frames))
    for line in (*trained.notes, *test_error_lines(result)):
        screen.print(line, soft_wrap=True)
    facts = provenance(environment) | {"weights": weights.name, "normalize": normalize, "data": images.fingerprint}
    title = f"{trained.what}: {weights.name}, {dataset}" + (f", step {read.step:,}" if read.step else "")
    for path in write(result.frames, facts, format, folder, title):
        screen.print(str(path), soft_wrap=True)
    store_at(folder).write(ASKED, identity)
    return DONE


def _default_folder(weights: Path, identity: bytes) -> Path:
    """``probes/FILE``, or ``probes/RUN`` for the weights in a run's folder.

    UserError if it holds results of other weights or other options: they would be overwritten.
    """
    from degradation.store import WEIGHTS, store_at

    folder = Path("probes") / (weights.absolute().parent.name if weights.name == WEIGHTS else weights.stem)
    store = store_at(folder)
    if store.exists(ASKED) and store.read(ASKED) != identity:
        raise UserError(f"{folder} holds results of other weights or other options: choose another folder with --out")
    return folder


def _check_writable(folder: str | Path, format: str) -> None:
    """UserError if the folder cannot be written: checked before anything is computed.

    For a URL only the access is checked; a refused write is reported when it happens.
    """
    from degradation.store import store_at

    store = store_at(folder)
    if not isinstance(store.root, Path):
        store.exists(ASKED)
        return
    files = (*(f"{name}.{format}" for name in ("curves", "gradients", "responses")), *FIGURES, ASKED)
    try:
        why = _obstacle(store.root, files)
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise UserError(f"cannot write {store.root}: {why}: choose another directory with --out")


def _obstacle(root: Path, files: tuple[str, ...]) -> str:
    """Why files cannot be written in a folder; empty if they can. A test file is written and deleted."""
    from degradation.store import WRITING

    folders = (root, *root.parents)
    absent = [path for path in folders if not os.path.lexists(path)]
    nearest = next((path for path in folders if path not in absent), Path())
    if not nearest.is_dir():
        return f"{nearest} is no directory"
    if directories := [name for name in files if (root / name).is_dir()]:
        return f"{root / directories[0]} is a directory"
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(prefix=WRITING, dir=root).close()
    except OSError as error:
        return f"nothing can be made in {nearest} ({error.strerror or error})"
    finally:
        for path in absent:
            with suppress(OSError):  # another process may have started to write into it
                path.rmdir()
    return ""


def _identity(weights: Path, options: Mapping[str, object]) -> bytes:
    """The SHA-256 of the weights and the options, as JSON."""
    fields = dict(options) | {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    return (json.dumps(fields, indent=1) + "\n").encode()


def channels_of(text: str) -> tuple[Channels, Channels] | None:
    """Mean and std of each channel; None for the paper's mean image. UserError for neither a name nor six numbers."""
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    try:
        mean, std = (tuple(float(part) for part in half.split(",")) for half in text.split("/"))
    except ValueError:
        mean = std = ()
    six_numbers = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std)))
    if not six_numbers or min(std) <= 0:
        names = ", ".join(NORMALIZATIONS)
        raise UserError(
            f"--normalize: expected {names} or three means and three stds, finite and the stds above 0, as "
            f"a,b,c/d,e,f, not {text!r}"
        )
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def test_error_lines(result: "ProbeResult") -> list[str]:
    """The test error, or why there is none; a warning if it is large."""
    frames = result.frames
    curves = frames["curves"].set_index("statistics")
    errors, losses, examples = curves["error"], curves["loss"], curves["examples"].iloc[0]
    running, batch = (
        "none" if result.not_finite[kind] else f"{100 * errors[kind]:.2f} %" for kind in ("running", "batch")
    )
    lines = [f"test error {running} with running statistics, {batch} with those of each batch, {examples:,} images"]
    for kind, number in result.not_finite.items():
        if number:
            lines.append(
                f"with {kind} statistics its outputs are not finite (NaN or infinite) for {number:,} of {examples:,} "
                f"images: no test error can be computed{_from_where(frames['responses'], kind)}"
            )
        elif not math.isfinite(losses[kind]):
            lines.append(f"with {kind} statistics its loss is not finite: outputs are too large")
    if errors.min() > SUSPECT:
        lines.append(
            "such a large error is rare for a trained network: do --network, --shortcut, --normalize and --dataset fit "
            "these weights? (plain and residual with shortcut A have the same tensors)"
        )
    if without_response := sorted(set(frames["gradients"]["name"]) - set(frames["responses"]["name"])):
        lines.append(f"{', '.join(without_response)}: no response (the output of the norm after a convolution)")
    return lines


def _from_where(responses: "pd.DataFrame", kind: str) -> str:
    """The first layer whose responses to the training images are not finite; empty if all are finite."""
    own = responses[responses["statistics"] == kind].sort_values("layer")
    broken = [str(name) for name, std in zip(own["name"], own["std"], strict=True) if not math.isfinite(std)]
    return f"; responses are not finite from {broken[0]} on" if broken else ""


def table_of(frames: Mapping[str, "pd.DataFrame"]) -> "Table":
    """One row per layer: std of its response by kind of statistics, norms of its weight and gradient."""
    from degradation.cli.console import new_table

    std = frames["responses"].pivot(index="name", columns="statistics", values="std")
    numbers = ("response std\nrunning", "response std\nbatch", "weight\nnorm", "gradient\nnorm")
    table = new_table("layer", "name", *numbers, right=("layer", *numbers))
    for row in frames["gradients"].to_dict("records"):
        deviations = [
            f"{std.loc[row['name'], kind]:.3f}" if row["name"] in std.index else "-" for kind in ("running", "batch")
        ]
        table.add_row(
            str(row["layer"]), row["name"], *deviations, f"{row['weight_norm']:.3f}", f"{row['weight_grad_norm']:.2e}"
        )
    return table


def write(
    frames: Mapping[str, "pd.DataFrame"], facts: Mapping[str, object], format: str, folder: str | Path, title: str
) -> "list[Place]":
    """The frames and the figure as files; returns their paths. UserError if the folder cannot be written."""
    import io

    from degradation.figures.recorded import recorded
    from degradation.figures.style import styled
    from degradation.frames.schemas import to_csv, to_parquet
    from degradation.store import store_at

    files = {
        f"{name}.{format}": to_csv(frame) if format == "csv" else to_parquet(frame, facts)
        for name, frame in frames.items()
    }
    with styled():
        figure, _ = recorded(frames, title, steps=False)
        for name, metadata in zip(FIGURES, ({}, {"Date": None}), strict=True):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=name.rpartition(".")[2], metadata=metadata)
            files[name] = buffer.getvalue()
    store = store_at(folder)
    for name, content in files.items():
        store.write(name, content)
    return [store.root / name for name in files]
