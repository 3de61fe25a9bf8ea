"""Products of a symmetric matrix with vectors -> Ritz values with their weights and error bounds, by Lanczos."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Product = Callable[[Tensor], Tensor]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ritz:
    """Eigenvalues of the matrix restricted to a Krylov space, ascending.

    ``weights`` (sum 1) are the squared first components: sum_i weights_i f(values_i) approximates v' f(A) v for the
    unit start v (Golub and Meurant 1994; Ubaru, Chen and Saad 2017). Within ``residuals`` of each value lies an
    eigenvalue of the matrix (|beta_m s_mi|, Parlett 1980, section 13.2). ``curvature`` is v' A v.
    """

    values: Reals
    weights: Reals
    residuals: Reals
    curvature: float


def lanczos(product: Product, start: Tensor, steps: int) -> Ritz:
    """Take ``steps`` of Lanczos from ``start`` (n,); each new vector is orthogonalized against all before, twice.

    There are fewer steps if the Krylov space ends before, at n or at an invariant subspace: then the residuals are
    zero. Raises ValueError if a product is not finite.
    """
    basis = [start / start.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    largest = 0.0
    for _ in range(min(steps, start.numel())):
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        if not np.isfinite(diagonal[-1]):
            raise ValueError("a Hessian-vector product is not finite")
        largest = max(largest, float(image.norm()))
        residual = _orthogonal(image, basis)
        off_diagonal.append(float(residual.norm()))
        if off_diagonal[-1] <= 10 * torch.finfo(start.dtype).eps * largest:
            off_diagonal[-1] = 0.0
            break
        basis.append(residual / off_diagonal[-1])
    values, vectors = (np.asarray(part, dtype=np.float64) for part in eigh_tridiagonal(diagonal, off_diagonal[:-1]))
    residuals = np.abs(off_diagonal[-1] * vectors[-1])
    return Ritz(values=values, weights=vectors[0] ** 2, residuals=residuals, curvature=diagonal[0])


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """The part of the vector orthogonal to the basis; computed twice, since once loses digits in float32."""
    directions = torch.stack(basis)
    for _ in range(2):
        vector = vector - directions.T @ (directions @ vector)
    return vector
