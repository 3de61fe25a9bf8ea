"""A network, at initialization, at kept steps and trained -> how well signals and gradients pass through it.

All in evaluation mode, so that examples are independent. Trained networks have their running statistics; earlier ones,
whose running statistics lag behind or mean nothing, have statistics estimated over augmented training images.

- ``jacobian``: singular values of the logits' derivative with respect to the input image (dynamical isometry,
  Pennington et al. 2017, arXiv:1711.04735; Xiao et al. 2018, arXiv:1806.05393), geometric means over images.
- ``ntk``: the kernel of one logit's gradients with respect to all weights (Jacot et al. 2018, arXiv:1806.07572). Its
  condition number alone misleads at initialization: the kernel of shattered gradients is diagonal and well
  conditioned. The mean cosine of the gradients tells the two apart.
- ``gradients``: cosines of the examples' loss gradients, within a class, across classes, and the least of all (gradient
  confusion, Sankararaman et al. 2020, arXiv:1904.06963).
- ``noise``: the gradient noise scale, trace of the covariance of the examples' loss gradients over the squared norm of
  their mean (McCandlish et al. 2018, arXiv:1812.06162, section 2.2).
- ``cka``: linear centred kernel alignment of every two layers' responses (Kornblith et al. 2019, arXiv:1905.00414),
  with the unbiased estimate of Song et al. 2012, since a layer has more numbers than there are images.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.experiments.evaluate import REESTIMATED, RUNNING, reestimate
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.similarity import aligned_pairs, gram
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.probes.hooks import Taps

COLUMNS: Mapping[str, str] = {
    "state": TEXT,  # initial, snapshot or trained
    "step": INTEGER,  # updates before the measurement
    "quantity": TEXT,  # see QUANTITIES
    "index": INTEGER,  # jacobian: place of the singular value, 0 the largest; cka: number of a layer; else 0
    "other": INTEGER,  # cka: number of the other layer, from ``index`` on; else 0
    "value": REAL,  # missing if it is not defined, such as the cosine with a gradient of zero
    "low": REAL,  # 95 % interval of noise-scale (jackknife); missing for the others
    "high": REAL,
    "statistics": TEXT,
    "examples": INTEGER,
}

QUANTITIES: Mapping[str, str] = {
    "jacobian": "singular value of the input-output Jacobian, logits per unit of (pixel / 255)",
    "jacobian-condition": "its largest singular value over the last but one (softmax ignores a shift of all logits)",
    "ntk-cosine": "mean cosine of two examples' gradients of the first logit",
    "ntk-condition": "largest over smallest eigenvalue of the kernel of these gradients",
    "gradient-cosine-within": "mean cosine of the loss gradients of two examples of one class",
    "gradient-cosine-across": "mean cosine of the loss gradients of two examples of two classes",
    "gradient-cosine-least": "least cosine of the loss gradients of two examples",
    "noise-scale": "gradient noise scale, in examples",
    "cka": "unbiased linear CKA of the responses of two layers",
}

PAIRED = 64  # images whose gradients are compared pair by pair: 2,016 pairs
COMPARED = 256  # images of the CKA
NOISE_EXAMPLES = 512  # at least, of the noise scale
CHUNKS = 32  # equal parts of them
NUMBERS_AT_ONCE = 2**27  # gradient entries in memory, 1 GiB in float64

Row = dict[str, Any]


def parts(subject: Subject, _settings: Settings) -> Sequence[str]:
    """``initial-jacobian`` and so on: every measure of every state."""
    states = ["initial", *(f"step{step}" for step in sorted(subject.snapshots)), "trained"]
    return [f"{state}-{measure}" for state in states for measure in MEASURES]


def weight(_settings: Settings, part: str) -> float:
    """Passes through the network, of one example each, forward and backward."""
    return {"jacobian": 10, "ntk": 4, "gradients": 4, "noise": 8, "cka": 2}[part.partition("-")[2]]


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one part. Raises UserError if the run has no training images."""
    state, _, name = part.partition("-")
    network, step = _network(subject, settings, state)
    rows = list(MEASURES[name](network, subject, settings))
    estimated = state != "trained" and subject.run.norm == "batch"
    same = {
        "state": "snapshot" if state.startswith("step") else state,
        "step": step,
        "statistics": REESTIMATED if estimated else RUNNING,
    }
    data = pd.DataFrame([_EMPTY | row | same for row in rows], columns=list(COLUMNS))
    return data.astype(COLUMNS)


_EMPTY: Row = {"index": 0, "other": 0, "low": np.nan, "high": np.nan}


def _network(subject: Subject, settings: Settings, state: str) -> tuple[nn.Module, int]:
    if state == "trained":
        return subject.network(), subject.run.recipe.steps
    step = 0 if state == "initial" else int(state.removeprefix("step"))
    network = subject.initial() if state == "initial" else subject.network_at(step)
    reestimate(subject, settings.examples, network)
    return network, step


def _first(subject: Subject, examples: int) -> tuple[Tensor, Tensor]:
    """The first clean training images (N, 3, H, W) and their labels (N)."""
    images, labels = zip(*subject.batches("train", examples), strict=True)
    return torch.cat(images), torch.cat(labels)


# The input-output Jacobian


def jacobian(network: nn.Module, images: Tensor) -> Tensor:
    """Derivative of the logits with respect to each image by itself: (N, classes, 3 H W)."""
    inputs = images.clone().requires_grad_()
    logits = network(inputs)
    rows = [
        torch.autograd.grad(logits[:, k].sum(), inputs, retain_graph=k + 1 < logits.shape[1])[0]
        for k in range(logits.shape[1])
    ]
    return torch.stack([row.flatten(1) for row in rows], dim=1)


def _jacobian(network: nn.Module, subject: Subject, _settings: Settings) -> Iterator[Row]:
    images, _ = _first(subject, PAIRED)
    values = torch.linalg.svdvals(jacobian(network, images).double()).cpu().numpy()
    for place, column in enumerate(values.T):
        yield {"quantity": "jacobian", "index": place, "value": _geometric_mean(column), "examples": len(images)}
    last = max(0, values.shape[1] - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        condition = _geometric_mean(values[:, 0] / values[:, last])
    yield {"quantity": "jacobian-condition", "value": condition, "examples": len(images)}


def _geometric_mean(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    """Missing if a value is zero or not finite."""
    return float(np.exp(np.log(values).mean())) if np.isfinite(values).all() and (values > 0).all() else math.nan


# Gradients of single examples


def gradient_kernel(network: nn.Module, batches: Sequence[Tensor], output: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Products of the gradients of every two batches of images with respect to all weights: (M, M), in float64.

    ``output`` makes the number that is differentiated from a batch's logits (n, classes) and its place. Weights are
    taken a group at a time, so that the gradients of all batches fit into memory.
    """
    kernel = torch.zeros(len(batches), len(batches), dtype=torch.float64, device=batches[0].device)
    for group in _groups(list(network.parameters()), NUMBERS_AT_ONCE // len(batches)):
        gradients = [_gradient(output(network(images), place), group) for place, images in enumerate(batches)]
        flat = torch.stack(gradients).double()
        kernel += flat @ flat.T
    return kernel


def _gradient(number: Tensor, weights: Sequence[nn.Parameter]) -> Tensor:
    gradients = torch.autograd.grad(number, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def _groups(weights: Sequence[nn.Parameter], most: int) -> Iterator[list[nn.Parameter]]:
    """The weights in groups of at most so many numbers, or of one weight that has more."""
    group: list[nn.Parameter] = []
    for each in weights:
        if group and sum(weight.numel() for weight in group) + each.numel() > most:
            yield group
            group = []
        group.append(each)
    yield group


def cosines(kernel: Tensor) -> Tensor:
    """The cosine of every two examples; missing for an example whose gradient is zero."""
    norms = kernel.diagonal().sqrt()
    return kernel / (norms[:, None] * norms[None, :])


def _ntk(network: nn.Module, subject: Subject, _settings: Settings) -> Iterator[Row]:
    images, _ = _first(subject, PAIRED)
    kernel = gradient_kernel(network.double(), torch.split(images.double(), 1), lambda logits, _: logits[0, 0])
    first, second = torch.triu_indices(len(images), len(images), 1)
    cosine = float(cosines(kernel)[first, second].mean())
    yield {"quantity": "ntk-cosine", "value": cosine, "examples": len(images)}
    yield {"quantity": "ntk-condition", "value": condition(kernel), "examples": len(images)}


def condition(kernel: Tensor) -> float:
    """Largest over smallest eigenvalue; missing if the smallest is not positive, or a number is not finite."""
    if not bool(kernel.isfinite().all()):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(kernel)
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else math.nan


def _gradients(network: nn.Module, subject: Subject, _settings: Settings) -> Iterator[Row]:
    images, labels = _first(subject, PAIRED)

    def loss(logits: Tensor, place: int) -> Tensor:
        return F.cross_entropy(logits, labels[place, None])

    kernel = gradient_kernel(network.double(), torch.split(images.double(), 1), loss)
    first, second = torch.triu_indices(len(images), len(images), 1)
    of_pairs, alike = cosines(kernel)[first, second], labels[first] == labels[second]
    found = {"within": of_pairs[alike].mean(), "across": of_pairs[~alike].mean(), "least": of_pairs.min()}
    for name, value in found.items():
        yield {"quantity": f"gradient-cosine-{name}", "value": float(value), "examples": len(images)}


# The gradient noise scale


def noise_scale(kernel: Tensor, size: int) -> tuple[float, float, float]:
    """The noise scale in examples and its 95 % interval, from the products (M, M) of the mean gradients of M chunks.

    Unbiased estimates of trace and squared norm from chunks of ``size`` examples and from all (McCandlish et al. 2018,
    appendix A.1), their ratio; the interval by the jackknife over chunks, on the logarithm. Missing if the estimate of
    the squared norm is not positive: the examples are too few to tell the gradient from noise.
    """
    products, count = kernel.cpu().numpy(), len(kernel)
    value = _noise_over_norm(products, size)
    without = np.array([_noise_over_norm(np.delete(np.delete(products, m, 0), m, 1), size) for m in range(count)])
    if not (value > 0 and (without > 0).all()):
        return value, math.nan, math.nan
    pseudo = count * math.log(value) - (count - 1) * np.log(without)
    error = 1.96 * float(pseudo.std(ddof=1)) / math.sqrt(count)
    return value, value * math.exp(-error), value * math.exp(error)


def _noise_over_norm(products: "np.ndarray[Any, Any]", size: int) -> float:
    count = len(products)
    of_chunk, of_all = float(products.diagonal().mean()), float(products.mean())
    trace = (of_chunk - of_all) * size * count / (count - 1)
    squared = of_all - trace / (size * count)
    return trace / squared if squared > 0 else math.nan


def _noise(network: nn.Module, subject: Subject, settings: Settings) -> Iterator[Row]:
    images, labels = _first(subject, max(settings.examples, NOISE_EXAMPLES))
    size = max(1, len(images) // CHUNKS)
    whole = len(images) // size * size
    batches, labelled = torch.split(images[:whole], size), torch.split(labels[:whole], size)
    kernel = gradient_kernel(network, batches, lambda logits, place: F.cross_entropy(logits, labelled[place]))
    value, low, high = noise_scale(kernel, size)
    yield {"quantity": "noise-scale", "value": value, "low": low, "high": high, "examples": whole}


# Similarity of layers


@torch.no_grad()
def _cka(network: nn.Module, subject: Subject, settings: Settings) -> Iterator[Row]:
    images, _ = _first(subject, min(settings.examples, COMPARED))
    layers = {layer.number: layer.response or layer.name for layer in network.layout.layers}  # type: ignore[union-attr]
    with Taps(network, layers.values()) as taps:
        network(images)
    matrix = aligned_pairs([gram(taps.outputs[name].flatten(1)) for name in layers.values()]).numpy()
    numbers = list(layers)
    for row, number in enumerate(numbers):
        for column in range(row, len(numbers)):
            pair = {"index": number, "other": numbers[column], "value": float(matrix[row, column])}
            yield {"quantity": "cka", "examples": len(images)} | pair


MEASURES: Mapping[str, Callable[[nn.Module, Subject, Settings], Iterator[Row]]] = {
    "jacobian": _jacobian,
    "ntk": _ntk,
    "gradients": _gradients,
    "noise": _noise,
    "cka": _cka,
}

SIGNAL = Experiment(
    name="signal",
    question="How well do signals and gradients pass through the network, before and after training?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
