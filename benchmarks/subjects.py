"""What is timed: our training of one run, set up as `degradation run` sets it up."""

from pathlib import Path

from degradation.data import load_images, resident
from degradation.data.images import Images
from degradation.errors import UserError
from degradation.runtime.environment import Environment
from degradation.runtime.progress import silent
from degradation.spec import Cifar10, Dataset, Network, RunSpec, StudyRecipe, StudySpec, Synthetic, grid
from degradation.training.trainer import RunCallbacks, Training

NEVER = 1_000_000  # steps: the schedule's end is out of sight


def data(data_dir: Path | None) -> tuple[Dataset, Images]:
    """CIFAR-10 where it is on this machine, else synthetic images of its size."""
    for dataset in (Cifar10(), Synthetic(examples=20_000, size=32)):
        try:
            return dataset, resident(load_images(dataset, data_dir))
        except UserError:
            continue
    raise UserError("no images")


def run_spec(dataset: Dataset, network: Network, depth: int, batch: int = 128) -> RunSpec:
    """One run of the paper's recipe with all probes."""
    recipe = StudyRecipe(steps=NEVER, batch=batch, warmup_steps=NEVER)
    return grid.runs(StudySpec(depths=(depth,), networks=(network,), dataset=dataset, recipe=recipe))[0]


class Ours:
    """Our training of a run; a call takes ``steps`` steps, every ``probe_every``-th of them measured."""

    def __init__(self, run: RunSpec, images: Images, environment: Environment, steps: int) -> None:
        self.training = Training(run, images, environment, silent)
        self.steps = steps

    def __call__(self, probe_every: int = 0) -> None:
        training, stepper = self.training, self.training.stepper
        for step in range(self.steps):
            training.batches.ready(training.position)
            if probe_every and step % probe_every == 0:
                training.readings.add(training.position, stepper.train_measured())
            else:
                stepper.train()
            training.position += 1


def whole_run(run: RunSpec, images: Images, environment: Environment) -> None:
    """Train a run from its first step to its last, as a launcher would, but without a disk."""
    host = RunCallbacks(should_stop=lambda: False, save=lambda: None, keep_snapshot=lambda step: None, save_seconds=1e9)
    Training(run, images, environment, silent).train(host)
