"""A trained network -> a deeper one with the same function, trained on: does it keep what it was given?

He et al. 2015, section 1: a deeper network can copy a shallower one and set its added layers to the identity, so a
higher training error is no lack of capacity. Blocks are added at the end of each stage, alike in all. A plain block is
made the identity by Dirac convolutions behind which batch norm undoes itself, gamma = sqrt(var + eps), beta = mean of
its input, which is behind a ReLU; a residual block by a branch of zero, last gamma = beta = 0. Equal functions hold in
evaluation mode alone: in training mode a plain block normalizes each batch by itself. Both the shallow network and the
made one are then trained by the same steps, with the run's recipe but one learning rate, without warm-up, and momentum
from zero.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from degradation import networks
from degradation.data.batches import Batches
from degradation.errors import UserError
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.objective import Objective
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.cifar import CifarNetwork
from degradation.networks.layout import norms
from degradation.probes import Taps
from degradation.spec import Measure, RunSpec
from degradation.training.step import State, Stepper

BLOCKS = 2  # added to each stage: 12 layers more
STEPS = 60
ROWS = 6  # in addition to the one at step 0
LEARNING_RATE = 0.01
NO_MILESTONE = 10_000_000  # the rate is constant: the recipe's drops lie far behind the last step

COLUMNS: Mapping[str, str] = {
    "made": TEXT,  # shallow: the trained network itself, trained on; deep: with identity blocks added
    "made_depth": INTEGER,
    "step": INTEGER,  # updates of the continuation; 0 is what was made
    "split": TEXT,  # train, clean
    "statistics": TEXT,  # running: in evaluation mode; batch: as in training mode
    "loss": REAL,
    "error": REAL,
    "examples": INTEGER,
    "learning_rate": REAL,
    "logit_difference": REAL,  # at step 0: largest distance of any logit from the trained network's; else missing
}


def deepened(shallow: CifarNetwork, run: RunSpec, examples: Tensor) -> CifarNetwork:
    """A network with ``BLOCKS`` more blocks in each stage and, in evaluation mode, the function of ``shallow``.

    ``run`` is that of ``shallow``. The statistics of the added blocks are those of their input over ``examples``
    (N, 3, H, W), in evaluation mode. Raises UserError for a network without batch norm, whose branches shrink with
    depth.
    """
    if run.norm != "batch":
        raise UserError("construct makes identities of batch norm, and this run has none: try a run with norm batch")
    made = networks.cifar_for_run(run.model_copy(update={"depth": run.depth + 6 * BLOCKS}))
    made.to(next(shallow.parameters()).device).to(memory_format=torch.channels_last).eval()
    kept = set(shallow.state_dict())
    made.load_state_dict(made.state_dict() | shallow.state_dict())
    added = [block for block in made.layout.blocks if f"{block.name}.conv1.weight" not in kept]
    for stage, moments in _moments(shallow, examples).items():
        for block in (block for block in added if block.stage == stage):
            _make_identity(made.get_submodule(block.name), moments, plain=run.network == "plain")
    return made


@torch.no_grad()
def _moments(network: CifarNetwork, images: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Mean and population variance by channel of what each stage hands on, by stage: (C,) each."""
    last = {block.stage: block.name for block in network.layout.blocks}
    with Taps(network.eval(), last.values()) as taps:
        network(images)
    return {
        stage: (taps.outputs[name].mean((0, 2, 3)), taps.outputs[name].var((0, 2, 3), correction=0))
        for stage, name in last.items()
    }


@torch.no_grad()
def _make_identity(block: nn.Module, moments: tuple[Tensor, Tensor], *, plain: bool) -> None:
    """Turn a block into the identity on what is not negative; its input has these moments by channel."""
    if plain:
        _copying(block, ("conv1.weight", "conv2.weight"), moments)
        return
    # The branch keeps its drawn convolutions: a gradient reaches them as soon as gamma has left zero.
    for name in ("bn2.weight", "bn2.bias"):
        block.get_parameter(name).zero_()
    projection = block.get_submodule("downsample")
    if any(True for _ in projection.parameters()):  # option C
        _copying(projection, ("0.weight",), moments)


def _copying(owner: nn.Module, convolutions: Iterable[str], moments: tuple[Tensor, Tensor]) -> None:
    """Dirac convolutions, and batch norms that undo their own normalization by these moments."""
    mean, variance = moments
    for name in convolutions:
        torch.nn.init.dirac_(owner.get_parameter(name))
    for norm in norms(owner):
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        norm.get_parameter("weight").copy_((variance + norm.eps).sqrt())
        norm.get_parameter("bias").copy_(mean)


def parts(_subject: Subject, _settings: Settings) -> Sequence[str]:
    return ["shallow", "deep"]


def weight(_settings: Settings, part: str) -> float:
    """The deep network's steps take longer; how much, depends on the depth: 2.5 times at depth 8, 1.4 at 32."""
    return 1.7 if part == "deep" else 1


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one continuation. Raises UserError for a run without batch norm."""
    batches = list(subject.batches("train", settings.examples))
    shallow, run = subject.network(), subject.run
    network = shallow
    if part == "deep":
        network = deepened(shallow, run, torch.cat([images for images, _ in batches]))
        run = run.model_copy(update={"depth": run.depth + 6 * BLOCKS})
    with torch.no_grad():
        difference = max(float((network(images) - shallow(images)).abs().max()) for images, _ in batches)
    rows = []
    for step in _continued(network, run, subject):
        for statistics in ("running", "batch"):
            loss, error = Objective(network=network, batches=batches, statistics=statistics).loss_and_error()
            found = {"step": step, "statistics": statistics, "loss": loss, "error": error}
            rows.append(found | {"logit_difference": difference if step == 0 else float("nan")})
    same = {"made": part, "made_depth": run.depth, "split": "train", "learning_rate": LEARNING_RATE}
    same |= {"examples": sum(len(labels) for _, labels in batches)}
    return pd.DataFrame([row | same for row in rows])[list(COLUMNS)].astype(COLUMNS)


def _continued(network: CifarNetwork, run: RunSpec, subject: Subject) -> Iterator[int]:
    """Train the network in place, and stop at step 0 and at each row on the way: yields the step."""
    changed = {"steps": NO_MILESTONE, "warmup_steps": 0, "learning_rate": LEARNING_RATE}
    recipe = run.recipe.model_copy(update=changed)
    run = run.model_copy(update={"recipe": recipe, "measure": Measure(probes=())})
    device = subject.environment.torch_device
    state = State(network.train(), recipe, device)
    batches = Batches(subject.images, recipe, run.seed, device)
    stepper = Stepper(state, batches, run, subject.environment, lambda _: None)
    yield 0
    for step in range(STEPS):
        batches.ready(step)
        stepper.train()
        if (step + 1) % (STEPS // ROWS) == 0:
            yield step + 1


CONSTRUCT = Experiment(
    name="construct",
    question="Does a deep network that begins with a shallow one's function keep its error?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
