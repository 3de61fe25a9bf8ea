"""How similar representations of the same images are: linear CKA with the unbiased estimate of HSIC."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two representations (examples, values) of the same examples; the number of values may differ.

    Kornblith et al. 2019 (arXiv:1905.00414, section 3): HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = x x^T, L = y y^T.
    With fewer examples than values the usual estimate of HSIC finds even independent representations similar, so this
    is the unbiased one of Song et al. 2012 (equation 5); it can be below 0. Needs four examples or more; NaN if
    a representation is the same for all examples.
    """
    return aligned(gram(x), gram(y))


def gram(x: Tensor) -> Tensor:
    """x x^T of the centred x, (examples, examples) in float64, with a zero diagonal for the unbiased estimate.

    Centring changes nothing in exact arithmetic; without it, rounding of a large mean hides small differences.
    """
    centred = x - x.mean(0)
    return (centred @ centred.T).double().fill_diagonal_(0.0)


def aligned(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """CKA from two Gram matrices without diagonal."""
    scale = float((hsic(k, k) * hsic(l, l)).clamp(min=0).sqrt())
    return float(hsic(k, l)) / scale if scale > 0 else float("nan")


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """The unbiased estimate of HSIC from two Gram matrices without diagonal (Song et al. 2012, equation 5)."""
    n = len(k)
    cross = k.sum(0) @ l.sum(0)
    total = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)
    return total / (n * (n - 3))


def aligned_pairs(grams: Sequence[Tensor]) -> Tensor:
    """CKA of every two of L Gram matrices without diagonal, each (N, N): (L, L).

    Raises ValueError for fewer than four examples.
    """
    if grams and len(grams[0]) < 4:
        raise ValueError(f"the unbiased CKA needs four images or more, not {len(grams[0])}")
    pairs = torch.empty(len(grams), len(grams), dtype=torch.float64)
    for row, one in enumerate(grams):
        for column in range(row, len(grams)):
            pairs[row, column] = pairs[column, row] = aligned(one, grams[column])
    return pairs
