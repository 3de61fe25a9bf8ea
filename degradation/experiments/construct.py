"""A trained network -> a deeper one with the same function, trained further: does it keep its error?

He et al. 2015, section 1: a deeper network can copy a shallower one and set its added layers to the identity, so a
higher training error is no lack of capacity. The same number of blocks is added at the end of each stage. A plain block
becomes the identity by Dirac convolutions, each followed by a batch norm that undoes itself: gamma = sqrt(var + eps),
beta = mean of its input, which is the output of a ReLU. A residual block becomes the identity by a branch of zero: last
gamma = beta = 0. The functions are equal in evaluation mode only: in training mode a plain block normalizes each batch
by its own statistics. Both the shallow and the deep network are then trained by the same steps, with the run's recipe,
but with one learning rate, without warm-up, and with momentum from zero.
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

BLOCKS = 2  # added to each stage: 12 more layers
STEPS = 60
ROWS = 6  # in addition to the one at step 0
LEARNING_RATE = 0.01
NO_MILESTONE = 10_000_000  # steps of the recipe: its first drop of the rate is long after the last step here

COLUMNS: Mapping[str, str] = {
    "made": TEXT,  # shallow: the trained network itself; deep: with identity blocks added
    "made_depth": INTEGER,
    "step": INTEGER,  # updates in further training; 0 is before the first
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

    ``run`` is the run of ``shallow``. The statistics of the added blocks are those of their input over ``examples``
    (N, 3, H, W), in evaluation mode. Raises UserError for a network without batch norm, whose branches shrink with
    depth.
    """
    if run.norm != "batch":
        raise UserError("construct makes identities of batch norm, and this run has none: try a run with norm batch")
    deep = networks.cifar_for_run(run.model_copy(update={"depth": run.depth + 6 * BLOCKS}))
    deep.to(next(shallow.parameters()).device).to(memory_format=torch.channels_last).eval()
    weights = shallow.state_dict()
    deep.load_state_dict(deep.state_dict() | weights)
    moments = _moments(shallow, examples)
    for block in deep.layout.blocks:
        if f"{block.name}.conv1.weight" not in weights:
            _make_identity(deep.get_submodule(block.name), moments[block.stage], plain=run.network == "plain")
    return deep


@torch.no_grad()
def _moments(network: CifarNetwork, images: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Stage -> mean and population variance by channel, (C,) each, of its last output."""
    last = {block.stage: block.name for block in network.layout.blocks}
    with Taps(network.eval(), last.values()) as taps:
        network(images)
    outputs = {stage: taps.outputs[name] for stage, name in last.items()}
    return {stage: (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)) for stage, x in outputs.items()}


@torch.no_grad()
def _make_identity(block: nn.Module, moments: tuple[Tensor, Tensor], *, plain: bool) -> None:
    """Turn a block into the identity on values that are not negative; its input has these moments by channel."""
    if plain:
        _make_copying(block, ("conv1.weight", "conv2.weight"), moments)
        return
    # The branch keeps its drawn convolutions: a gradient reaches them as soon as gamma has left zero.
    for name in ("bn2.weight", "bn2.bias"):
        block.get_parameter(name).zero_()
    projection = block.get_submodule("downsample")
    if any(True for _ in projection.parameters()):  # option C
        _make_copying(projection, ("0.weight",), moments)


def _make_copying(owner: nn.Module, convolutions: Iterable[str], moments: tuple[Tensor, Tensor]) -> None:
    """Set Dirac convolutions, and batch norms that undo their own normalization by these moments."""
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
    """The deep network's steps take longer: 2.5 times as long at depth 8, 1.4 times at 32."""
    return 1.7 if part == "deep" else 1


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one network in further training. Raises UserError for a run without batch norm."""
    batches = list(subject.batches("train", settings.examples))
    shallow, run = subject.network(), subject.run
    network = shallow
    if part == "deep":
        network = deepened(shallow, run, torch.cat([images for images, _ in batches]))
        run = run.model_copy(update={"depth": run.depth + 6 * BLOCKS})
    with torch.no_grad():
        difference = max(float((network(images) - shallow(images)).abs().max()) for images, _ in batches)
    rows = []
    examples = sum(len(labels) for _, labels in batches)
    for step in _train(network, run, subject):
        for statistics in ("running", "batch"):
            loss, error = Objective(network=network, batches=batches, statistics=statistics).loss_and_error()
            row = {"step": step, "split": "train", "statistics": statistics, "loss": loss, "error": error}
            rows.append(row | {"logit_difference": difference if step == 0 else float("nan")})
    data = pd.DataFrame(rows)
    data = data.assign(made=part, made_depth=run.depth, learning_rate=LEARNING_RATE, examples=examples)
    return data[list(COLUMNS)].astype(COLUMNS)


def _train(network: CifarNetwork, run: RunSpec, subject: Subject) -> Iterator[int]:
    """Train the network in place. Yields the step at 0 and at each further row."""
    constant_rate = {"steps": NO_MILESTONE, "warmup_steps": 0, "learning_rate": LEARNING_RATE}
    recipe = run.recipe.model_copy(update=constant_rate)
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
