"""A network, at initialization and trained -> how similar the gradients of neighbouring inputs are.

Inputs are at equal distances on straight lines between two clean training images. The gradient is that of a random
combination of the logits with respect to the input, in evaluation mode, so that no input depends on another: trained,
with the running statistics; at initialization, which has no such statistics, with statistics estimated over as many
augmented training images. The correlation of two gradients is their cosine: 1 for a linear network at any distance.
References: white noise (0), and Brownian motion along the line (mean of sqrt(i/j) over the pairs i < j), as in
Balduzzi et al. 2017, arXiv:1702.08591, section 2, whose inputs are one-dimensional; images are not.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from degradation.experiments.draws import generator_for
from degradation.experiments.evaluate import reestimate
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT

LINES_PER_DRAW = 8

COLUMNS: Mapping[str, str] = {
    "source": TEXT,  # gradients at initialization, or trained; or the reference white noise or brownian
    "lag": INTEGER,  # points between the two inputs
    "distance": REAL,  # between the two inputs, in distances of two images: lag / (points - 1)
    "correlation": REAL,  # mean cosine over all pairs of all lines
    "correlation_std": REAL,  # population, over lines
    "gradient_norm": REAL,  # mean L2 norm over all inputs; logits per unit of (pixel / 255); 1 for a reference
    "lines": INTEGER,
    "points": INTEGER,  # inputs on each line
    "statistics": TEXT,
    "examples": INTEGER,  # images from which the ends of lines, and initial statistics, are taken
}

Gradients = Callable[[int, Tensor], Tensor]


def points(settings: Settings) -> int:
    """Inputs on a line: 2^points + 1, so that halves, quarters and so on are among the distances.

    At least 17: the claims compare networks at a sixteenth.
    """
    return int(2 ** max(settings.points, 4)) + 1


def lines(subject: Subject, settings: Settings) -> Tensor:
    """Inputs on lines between random pairs of the first training images: (lines, points, 3, H, W)."""
    images = torch.cat([images for images, _ in subject.batches("train", settings.examples)])
    draws = generator_for(subject, settings, "shatter", "lines")
    count = LINES_PER_DRAW * settings.draws
    ends = torch.from_numpy(np.stack([draws.choice(len(images), 2, replace=False) for _ in range(count)]))
    first, last = images[ends[:, 0], None], images[ends[:, 1], None]
    share = torch.linspace(0, 1, points(settings), device=images.device).view(1, -1, 1, 1, 1)
    inputs: Tensor = first + share * (last - first)
    return inputs


def input_gradients(network: nn.Module, inputs: Tensor, combination: Tensor) -> Tensor:
    """Gradient of combination . logits at each of the inputs (N, 3, H, W), combination (classes,): (N, 3 H W)."""
    inputs = inputs.to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad((network(inputs) @ combination).sum(), inputs)
    flat: Tensor = gradient.reshape(len(inputs), -1)
    return flat


def correlations(gradients: Tensor) -> Tensor:
    """Mean cosine of the gradients (points, n) of one line at lags 1, 2, ..., points - 1; missing if one is 0."""
    unit = gradients / gradients.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    return torch.stack([cosines.diagonal(lag).mean() for lag in range(1, len(gradients))])


def parts(_subject: Subject, _settings: Settings) -> Sequence[str]:
    return ["initial", "trained", "references"]


def weight(_settings: Settings, part: str) -> float:
    """References need no network."""
    return 0.1 if part == "references" else 1


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one part."""
    inputs = lines(subject, settings)
    if part == "references":
        rows = [_rows(source, inputs, noise) for source, noise in _references(subject, settings).items()]
    else:
        network = subject.network() if part == "trained" else subject.initial()
        if part == "initial":
            reestimate(subject, settings.examples, network)
        combination = _combination(subject, settings).to(inputs.device)
        rows = [_rows(part, inputs, lambda line, points: input_gradients(network, points, combination[line]))]
    examples = sum(len(labels) for _, labels in subject.batches("train", settings.examples))
    data = pd.concat(rows, ignore_index=True)
    data = data.assign(statistics="running", examples=examples, points=inputs.shape[1])
    return data[list(COLUMNS)].astype(COLUMNS)


def _combination(subject: Subject, settings: Settings) -> Tensor:
    """A random combination of unit length for each line: (lines, classes)."""
    draws = generator_for(subject, settings, "shatter", "combinations")
    normal = torch.from_numpy(draws.standard_normal((LINES_PER_DRAW * settings.draws, 10), dtype=np.float32))
    return torch.nn.functional.normalize(normal)


def _references(subject: Subject, settings: Settings) -> dict[str, Gradients]:
    """Noise in place of gradients: independent at every input, or its running sum along the line."""
    draws = generator_for(subject, settings, "shatter", "noise")

    def white(_line: int, inputs: Tensor) -> Tensor:
        noise = draws.standard_normal((len(inputs), inputs[0].numel()), dtype=np.float32)
        scaled: Tensor = torch.from_numpy(noise) / inputs[0].numel() ** 0.5
        return scaled

    return {"white noise": white, "brownian": lambda line, inputs: white(line, inputs).cumsum(0)}


def _rows(source: str, inputs: Tensor, gradients: Gradients) -> pd.DataFrame:
    """Each lag's correlation over the lines (lines, points, 3, H, W)."""
    by_line = [gradients(line, points) for line, points in enumerate(inputs)]
    cosines = np.stack([correlations(line).cpu().numpy() for line in by_line]).astype(np.float64)
    norm = float(torch.stack([line.norm(dim=1).mean() for line in by_line]).mean())
    lag = np.arange(1, inputs.shape[1])
    numbers = {"correlation": cosines.mean(axis=0), "correlation_std": cosines.std(axis=0), "gradient_norm": norm}
    return pd.DataFrame({"source": source, "lag": lag, "distance": lag / lag[-1], "lines": len(inputs)} | numbers)


SHATTER = Experiment(
    name="shatter",
    question="Do neighbouring inputs still have like gradients in a deep network?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
