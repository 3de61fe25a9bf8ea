"""A trained network -> eigenvalues, trace and spectral density of its training loss's Hessian.

The Hessian is that of the mean cross-entropy over the first clean training images, a quarter as many as the settings'
examples, without weight decay, with respect to every parameter, in evaluation mode with the running statistics (as Yao
et al. 2019, arXiv:1912.07145, measure it). By Lanczos from random signs: the outermost Ritz values are the top
eigenvalues, all of them with their weights the density (stochastic Lanczos quadrature), and the signs' own curvature
times P the trace (Hutchinson 1990).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from degradation.experiments.draws import signs_like
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.lanczos import Ritz, lanczos
from degradation.experiments.objective import Objective
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT

STATISTICS = "running"
PART = 4  # of the settings' examples are used: a product costs some five forward and backward passes

COLUMNS: Mapping[str, str] = {
    "quantity": TEXT,  # ritz: a Ritz value of a Lanczos run; trace: one estimate of the Hessian's trace
    "draw": INTEGER,  # 0-based: which random start
    "index": INTEGER,  # of a Ritz value, 0 the largest; 0 for a trace
    "value": REAL,  # nats per squared unit of weight
    "weight": REAL,  # of a Ritz value in the density; over one draw they sum to 1; missing for a trace
    "residual": REAL,  # an eigenvalue of the Hessian lies within this of the Ritz value; missing for a trace
    "parameters": INTEGER,  # side of the Hessian
    "statistics": TEXT,
    "examples": INTEGER,
}


def steps(settings: Settings) -> int:
    """Lanczos steps of each start: enough that the largest eigenvalues converge, which the residuals show."""
    return 4 * settings.points


def parts(_subject: Subject, settings: Settings) -> Sequence[str]:
    """One Lanczos run, and one bundle of further draws for the trace, for each of the settings' draws."""
    return [f"{kind}-{draw}" for kind in ("lanczos", "trace") for draw in range(settings.draws)]


def weight(settings: Settings, part: str) -> float:
    """Products with the Hessian."""
    return steps(settings) if part.startswith("lanczos") else settings.points


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one part. Raises ValueError if the Hessian is not finite."""
    kind, draw = part.split("-")
    batches = list(subject.batches("train", max(1, settings.examples // PART)))
    objective = Objective(network=subject.network(), batches=batches, statistics=STATISTICS)
    take = _lanczos if kind == "lanczos" else _trace
    rows = take(objective, subject, settings, int(draw))
    same = {
        "parameters": sum(weight.numel() for weight in objective.weights),
        "statistics": STATISTICS,
        "examples": objective.examples,
    }
    return pd.DataFrame([row | same for row in rows], columns=list(COLUMNS)).astype(COLUMNS)


def _lanczos(objective: Objective, subject: Subject, settings: Settings, draw: int) -> list[dict[str, object]]:
    start = signs_like(objective.network, subject, settings, "lanczos", draw)
    found = lanczos(objective.hessian_times, start, steps(settings))
    return [*ritz_rows(found, draw), _trace_row(found.curvature * start.numel(), draw)]


def ritz_rows(found: Ritz, draw: int) -> list[dict[str, object]]:
    """A row for each Ritz value, the largest first."""
    columns = zip(found.values[::-1], found.weights[::-1], found.residuals[::-1], strict=True)
    return [
        {"quantity": "ritz", "draw": draw, "index": index, "value": value, "weight": weight, "residual": residual}
        for index, (value, weight, residual) in enumerate(columns)
    ]


def _trace(objective: Objective, subject: Subject, settings: Settings, draw: int) -> list[dict[str, object]]:
    """Further estimates, as many as the settings' points; numbered after those of the Lanczos starts."""
    rows = []
    for number in range(settings.points):
        signs = signs_like(objective.network, subject, settings, "trace", draw, number)
        estimate = float(signs @ objective.hessian_times(signs))
        rows.append(_trace_row(estimate, settings.draws + draw * settings.points + number))
    return rows


def _trace_row(estimate: float, draw: int) -> dict[str, object]:
    missing = {"weight": np.nan, "residual": np.nan}
    return {"quantity": "trace", "draw": draw, "index": 0, "value": estimate} | missing


CURVATURE = Experiment(
    name="curvature",
    question="How curved is the training loss around the trained weights, and in how many directions?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
