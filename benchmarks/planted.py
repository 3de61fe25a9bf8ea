"""Five small networks, a task that each learns in seconds, and the faults that are planted in their training."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.recording import findings as kinds

CLASSES, WIDTH = 4, 32


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A training, healthy as it is made; a fault changes it."""

    make: Callable[["Setup"], nn.Module]
    shape: tuple[int, ...]
    """Of one example."""
    rate: float = 3e-3
    adam: bool = True
    depth: int = 3
    norm: bool = True
    sigmoid: bool = False
    gain: float | None = None
    """The weights are normal, of this times the std of He; None: as torch makes them."""
    shortcut: float = 1.0
    detached: bool = False
    harm: Callable[[nn.Module], None] = field(default=lambda network: None)
    """Done to the network before its training."""
    noise: bool = False
    broken: int | None = None
    """The step whose batch has a NaN."""
    clears: bool = True
    """Whether the gradients are cleared."""


class Chain(nn.Module):
    """Convolutions, each with norm and activation, with shortcuts around pairs or without; pooling; a linear layer."""

    def __init__(self, setup: Setup, width: int, pairs: bool) -> None:
        super().__init__()
        self.setup, self.pairs = setup, pairs
        widths = [setup.shape[0], *[width] * setup.depth]
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=not setup.norm),
                *([nn.BatchNorm2d(after)] if setup.norm else []),
            )
            for before, after in pairwise(widths)
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        act = torch.sigmoid if self.setup.sigmoid else torch.relu
        skipped = x
        for place, conv in enumerate(self.convs):
            x = conv(x)
            if self.pairs and place and place % 2 == 0:
                x = x + self.setup.shortcut * skipped
            x = act(x)
            if place % 2 == 0:
                skipped = x
            if self.setup.detached and place == 0:
                x = skipped = x.detach()
        outputs: Tensor = self.head(x.mean((2, 3)))
        return outputs


class Block(nn.Module):
    """Attention and two linear layers, the norm before each."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) if setup.norm else nn.Identity() for _ in range(2))
        self.mix = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        act = torch.sigmoid if self.setup.sigmoid else torch.relu
        one = self.norms[0](x)
        x = self.setup.shortcut * x + self.mix(one, one, one, need_weights=False)[0]
        outputs: Tensor = self.setup.shortcut * x + self.down(act(self.up(self.norms[1](x))))
        return outputs


class Transformer(nn.Module):
    """Blocks, the mean over positions, a linear layer."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.first = nn.Linear(setup.shape[1], WIDTH)
        self.blocks = nn.ModuleList(Block(setup) for _ in range(setup.depth))
        self.norm = nn.LayerNorm(WIDTH) if setup.norm else nn.Identity()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for place, block in enumerate(self.blocks):
            x = block(x)
            if self.setup.detached and place == 0:
                x = x.detach()
        outputs: Tensor = self.head(self.norm(x).mean(1))
        return outputs


class Reader(nn.Module):
    """A recurrent module, its last output, two linear layers."""

    def __init__(self, setup: Setup, recurrent: type[nn.LSTM | nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.setup = setup
        self.rnn = recurrent(setup.shape[1], WIDTH, setup.depth, batch_first=True)
        self.inner, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        last = self.rnn(x)[0][:, -1]
        outputs: Tensor = self.head(torch.relu(self.inner(last.detach() if self.setup.detached else last)))
        return outputs


def made(setup: Setup) -> nn.Module:
    """The network of a training, with what is done to it."""
    network = setup.make(setup)
    if setup.gain is not None:
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=setup.gain * math.sqrt(2 / weight[0].numel()))
            elif "bias" in name:
                nn.init.zeros_(weight)
    setup.harm(network)
    return network


NETWORKS = {
    "cnn": Setup(make=lambda s: Chain(s, 16, False), shape=(3, 32, 32), norm=False),
    "plain-50": Setup(make=lambda s: Chain(s, 8, False), shape=(3, 8, 8), depth=49, adam=False, rate=0.02, gain=1.0),
    "resnet": Setup(make=lambda s: Chain(s, 8, True), shape=(3, 8, 8), depth=17, adam=False, rate=0.05, gain=1.0),
    "transformer": Setup(make=Transformer, shape=(16, 8), depth=4, rate=1e-3),
    "lstm": Setup(make=Reader, shape=(12, 8), depth=2),
}
HEALTHY = {
    # A plain network of 50 layers is none: behind each batch norm the gradient grows, by 1,000 and more over all of
    # them as its training begins, which is what this project is about.
    **{name: setup for name, setup in NETWORKS.items() if name != "plain-50"},
    "cnn at 64x64": replace(NETWORKS["cnn"], shape=(3, 64, 64)),
    "cnn with SGD": replace(NETWORKS["cnn"], adam=False, rate=0.01, gain=1.0),
    "cnn with norms": replace(NETWORKS["cnn"], norm=True),
    "plain-20": replace(NETWORKS["plain-50"], depth=19, rate=0.05),
    "transformer, 128 words": replace(NETWORKS["transformer"], shape=(128, 8), depth=2),
    "gru": replace(NETWORKS["lstm"], make=lambda s: Reader(s, nn.GRU)),
}


def half(network: nn.Module) -> None:
    """Freeze the first half of the weights, at least one module."""
    weights = list(network.parameters())
    for weight in weights[: len(weights) // 2]:
        weight.requires_grad_(False)


def kill(network: nn.Module) -> None:
    """A layer before a ReLU, in the middle, whose units are all off."""
    dies = {"Chain": "convs", "Transformer": "blocks", "Reader": "inner"}[type(network).__name__]
    inner = network.get_submodule(dies)
    part = inner[len(inner) // 2] if isinstance(inner, nn.ModuleList) else inner
    layer = part.up if isinstance(part, Block) else part[-1] if isinstance(part, nn.Sequential) else part
    assert isinstance(layer.bias, Tensor)
    nn.init.constant_(layer.bias, -100.0)


Change = Callable[[Setup], Setup]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How a fault is planted, and what a recording should say."""

    changes: Mapping[str, Change]
    """Of the networks where it can be planted."""
    right: frozenset[str]
    follows: frozenset[str] = frozenset()
    """What comes of it, and may be said as well."""


def everywhere(change: Change) -> dict[str, Change]:
    return dict.fromkeys(NETWORKS, change)


def fault(changes: Mapping[str, Change], right: set[str], *follows: str) -> Fault:
    return Fault(changes=changes, right=frozenset(right), follows=frozenset(follows))


def with_(**fields: object) -> Change:
    return lambda setup: replace(setup, **fields)  # type: ignore[arg-type]


VANISHES, EXPLODES = kinds.VANISHING, kinds.EXPLODING
BLOWN = (kinds.NOT_FINITE, kinds.FAST, kinds.DEAD, kinds.CUT, kinds.ODD, kinds.TINY, kinds.HUGE, VANISHES, EXPLODES)
"""What may be true of a network that one huge update has destroyed."""
FAULTS = {
    "vanishing": fault(
        {
            "cnn": with_(depth=10, sigmoid=True),
            "plain-50": with_(norm=False, gain=0.6),
            "resnet": with_(norm=False, shortcut=0.2, gain=0.5),
            "transformer": with_(norm=False, shortcut=0.0, depth=12),
            "lstm": with_(depth=12),
        },
        {VANISHES},
        kinds.TINY,
        kinds.DEAD,  # units of narrow networks die where nothing reaches them
        kinds.CUT,
    ),
    "exploding": fault(
        {
            "cnn": with_(depth=8, gain=4.0),
            "plain-50": with_(norm=False, gain=1.5),
            "resnet": with_(norm=False, shortcut=3.0),
            "transformer": with_(norm=False, shortcut=2.0, depth=8),
        },
        {EXPLODES},
        *BLOWN,
    ),
    "dead units": fault(everywhere(with_(harm=kill)), {kinds.DEAD}, kinds.CUT, VANISHES, kinds.ODD),
    "rate too high": fault(everywhere(lambda setup: replace(setup, rate=setup.rate * 1000)), {kinds.FAST}, *BLOWN),
    "rate too low": fault(everywhere(with_(rate=1e-9)), {kinds.SLOW}),
    "frozen": fault(everywhere(with_(harm=half)), {kinds.STILL}),
    "detached": fault(everywhere(with_(detached=True)), {kinds.CUT}),
    "no norm": fault(
        {"plain-50": with_(norm=False, gain=None), "resnet": with_(norm=False, depth=49)},
        {VANISHES, EXPLODES},
        *BLOWN,
    ),
    "wrong gain": fault(
        {
            "cnn": with_(gain=0.02),
            "plain-50": with_(norm=False, gain=0.3),
            "resnet": with_(norm=False, gain=4.0),
            "transformer": with_(gain=30.0),
            "lstm": with_(gain=0.001),
        },
        {VANISHES, EXPLODES, kinds.ODD},
        *BLOWN,
    ),
    "noise for labels": fault(everywhere(with_(noise=True)), {"noise"}),
    "NaN in the data": fault(everywhere(with_(broken=20)), {kinds.NOT_FINITE}),
    "no zero_grad": fault(everywhere(with_(clears=False)), {kinds.PILING}, *BLOWN),
}


def batches(setup: Setup, size: int = 32) -> Callable[[int], tuple[Tensor, Tensor]]:
    """A pattern for each class, scaled and shifted by chance, and noise: the batch of each step."""
    patterns = torch.randn(CLASSES, *setup.shape)
    patterns += patterns.flatten(2).mean(2).view(CLASSES, -1, *[1] * (len(setup.shape) - 1)) * 3

    def batch(step: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(CLASSES, (size,))
        examples = patterns[labels] + 0.5 * torch.randn(size, *setup.shape)
        if step == setup.broken:
            examples.view(size, -1)[0, 0] = math.nan
        return examples, torch.randint(CLASSES, (size,)) if setup.noise else labels

    return batch


def train(setup: Setup, network: nn.Module, steps: int) -> list[float]:
    """The losses of an ordinary loop."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(weights, lr=setup.rate)
        if setup.adam
        else torch.optim.SGD(weights, lr=setup.rate, momentum=0.9)
    )
    batch, losses = batches(setup), []
    for step in range(steps):
        examples, labels = batch(step)
        if setup.clears:
            optimizer.zero_grad()
        loss = F.cross_entropy(network(examples), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses
