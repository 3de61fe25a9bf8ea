"""A Ray cluster's resources -> the share of each run, and the number of runs at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from degradation.errors import UserError
from degradation.runtime.environment import Options

LEAST_GPU = 0.01
GPU_SHARES = (1.0, 0.5, 0.25)  # the largest with which all runs go at a time, else the last


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of a run: a part of one GPU, or CPU cores."""

    gpus: float = 0.0
    cores: int = 0

    def doubled(self) -> "Share":
        """Half as many runs on a GPU."""
        return replace(self, gpus=min(1.0, 2 * self.gpus))

    def within(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """The number of runs at a time on nodes with these resources."""
        if self.gpus:
            return sum(int(node.get("GPU", 0)) * int(1 / self.gpus) for node in nodes)
        return sum(int(node.get("CPU", 0)) // self.cores for node in nodes)

    def description(self) -> str:
        """``0.25 of a GPU`` or ``2 cores``."""
        if self.gpus:
            return "a whole GPU" if self.gpus == 1 else f"{self.gpus:g} of a GPU"
        return f"{self.cores} core{'' if self.cores == 1 else 's'}"

    def least(self) -> dict[str, Any]:
        """Ray's options of a check of a node: a minimal share of a GPU or none, so that it need not wait."""
        return {"num_gpus": LEAST_GPU if self.gpus else 0, "num_cpus": 0}

    def ray_options(self) -> dict[str, Any]:
        """The share as options of Ray."""
        return {"num_gpus": self.gpus, "num_cpus": self.cores}


def share_of(options: Options, nodes: Iterable[Mapping[str, float]], runs: int) -> Share:
    """The share of each of ``runs`` runs: of a GPU if there is one or a share is given, else a core per thread."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    if options.device == "mps":
        raise UserError("--device mps: Ray shares out CUDA devices and cores: expected auto, cpu or cuda")
    if options.device == "cpu" and options.gpus_per_run is not None:
        raise UserError("--gpus-per-run and --device cpu: expected one of them")
    if options.device == "cuda" or options.gpus_per_run is not None or (options.device == "auto" and gpus):
        all_at_once = (share for share in GPU_SHARES if runs * share <= gpus)
        return Share(gpus=options.gpus_per_run or next(all_at_once, GPU_SHARES[-1]))
    return Share(cores=options.threads or 1)
