"""What each process of torchrun carries out for tests/test_distributed.py: our training beside torch's own wrapper."""

import json
import sys
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from degradation import networks
from degradation.data.batches import Batches
from degradation.runtime.environment import Options, choose_environment
from degradation.runtime.progress import silent
from degradation.spec import BlockSpec, Measure, RunSpec
from degradation.training.lr_schedule import learning_rate
from degradation.training.process_group import ALONE, ProcessGroup, connect
from degradation.training.trainer import RunCallbacks, Training
from tests import made

QUIET = RunCallbacks(should_stop=lambda: False, save=lambda: None, keep_snapshot=lambda step: None, save_seconds=1e9)
STEPS = 5


def ours(run: RunSpec, team: ProcessGroup) -> Training:
    environment = choose_environment(Options(threads=1), "fp32", 1) if team.connected else made.CPU
    training = Training(run, made.images(), environment, silent, team)
    training.train(QUIET)
    return training


def torchs(run: RunSpec, team: ProcessGroup) -> torch.nn.Module:
    """The network after the run's steps by DistributedDataParallel, on this process's rows of every batch."""
    network = networks.for_run(run)
    wrapped = DistributedDataParallel(network, broadcast_buffers=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches = Batches(made.images(), run.recipe, run.seed, torch.device("cpu"))
    size = run.recipe.batch // team.count
    rows = slice(team.rank * size, (team.rank + 1) * size)
    for step in range(run.recipe.steps):
        batches.ready(step)
        images, labels, _ = batches.fill(torch.tensor(step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.recipe, step)
        optimizer.zero_grad()
        F.cross_entropy(wrapped(images[rows]), labels[rows]).backward()
        optimizer.step()
    return network


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The greatest difference of two tensors of one name, relative to the tensor's norm."""
    distances = [(one[name] - other[name]).norm() / (other[name].norm() + 1e-6) for name in other]
    return max(float(distance) for distance in distances)


def floats(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def main(out: Path) -> None:
    team = connect()
    run = made.run_spec(steps=STEPS, ghost_batches=2, measure=Measure(probes=()))
    together, wrapped = floats(ours(run, team).state.network), floats(torchs(run, team))
    for name, tensor in wrapped.items():
        if "running" in name:  # torch's are each process's own
            team.sum(tensor).div_(team.count)
    finer = made.run_spec(steps=STEPS, ghost_batches=4, measure=Measure(probe_every=2, eval_every=2))
    finer = finer.model_copy(update={"block": BlockSpec(dropout=0.5)})
    shared, alone = ours(finer, team), ours(finer, ALONE)
    frames = {name: [frame.to_json(), alone.frames()[name].to_json()] for name, frame in shared.frames().items()}
    found = {
        "from torch's": farthest(together, wrapped),
        "from one process": farthest(floats(shared.state.network), floats(alone.state.network)),
        "checksums": [int(training.state.checksum) for training in (shared, alone)],
        "batches": [int(training.state.network.bn1.num_batches_tracked) for training in (shared, alone)],
        "frames": frames,
        "last of the weights": together["fc.weight"].flatten().tolist()[-1],
    }
    (out / f"{team.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
