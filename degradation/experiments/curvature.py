"""A trained network -> eigenvalues, trace and spectral density of its training loss's Hessian.

The Hessian is that of the mean cross-entropy over the first clean training images, a quarter as many as the settings'
examples, without weight decay, with respect to every parameter, in evaluation mode with the running statistics (as Yao
et al. 2019, arXiv:1912.07145, measure it). By Lanczos from random signs: the outermost Ritz values are the top
eigenvalues, all of them with their weights the density (stochastic Lanczos quadrature), and the signs' own curvature
times P the trace (Hutchinson 1990).
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from degradation.experiments.draws import signs_like
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.lanczos import lanczos
from degradation.experiments.objective import Objective
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT

STATISTICS = "running"
PART = 4  # one in so many of the settings' examples is used: a product costs some five forward and backward passes

COLUMNS: Mapping[str, str] = {
    "quantity": TEXT,  # ritz: a Ritz value of a Lanczos run; trace: one estimate of the Hessian's trace
    "draw": INTEGER,  # number of the random start, 0-based
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
    """For each of the settings' draws, one Lanczos run and one group of further draws for the trace."""
    return [f"{kind}-{draw}" for kind in ("lanczos", "trace") for draw in range(settings.draws)]


def weight(settings: Settings, part: str) -> float:
    """The number of products with the Hessian."""
    return steps(settings) if part.startswith("lanczos") else settings.points


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one part. Raises ValueError if the Hessian is not finite."""
    kind, draw = part.split("-")
    batches = list(subject.batches("train", max(1, settings.examples // PART)))
    objective = Objective(network=subject.network(), batches=batches, statistics=STATISTICS)
    rows = (_lanczos if kind == "lanczos" else _trace)(objective, subject, settings, int(draw))
    parameters = sum(weight.numel() for weight in objective.weights)
    rows = rows.assign(parameters=parameters, statistics=STATISTICS, examples=objective.examples)
    return rows.reindex(columns=list(COLUMNS)).astype(COLUMNS)


def _lanczos(objective: Objective, subject: Subject, settings: Settings, draw: int) -> pd.DataFrame:
    """A row for each Ritz value, the largest first, then the start's estimate of the trace."""
    start = signs_like(objective.network, subject, settings, "lanczos", draw)
    ritz = lanczos(objective.hessian_times, start, steps(settings))
    numbers = {"value": ritz.values[::-1], "weight": ritz.weights[::-1], "residual": ritz.residuals[::-1]}
    values = pd.DataFrame({"quantity": "ritz", "index": range(len(ritz.values)), **numbers})
    trace = pd.DataFrame([{"quantity": "trace", "index": 0, "value": ritz.curvature * start.numel()}])
    return pd.concat([values, trace], ignore_index=True).assign(draw=draw)


def _trace(objective: Objective, subject: Subject, settings: Settings, draw: int) -> pd.DataFrame:
    """Further estimates, as many as the settings' points; numbered after those of the Lanczos starts."""
    first, estimates = settings.draws + draw * settings.points, []
    for number in range(settings.points):
        signs = signs_like(objective.network, subject, settings, "trace", draw, number)
        estimates.append(float(signs @ objective.hessian_times(signs)))
    draws = range(first, first + settings.points)
    return pd.DataFrame({"quantity": "trace", "draw": draws, "index": 0, "value": estimates})


CURVATURE = Experiment(
    name="curvature",
    question="How curved is the training loss around the trained weights, and in how many directions?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
