"""Made-up rows of shatter, paths, landscape, curvature, signal and construct, in the shapes that were published."""

import math
from collections.abc import Iterator
from typing import Any

from degradation.spec import RunSpec


def shatter_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    fall = {"plain": 0.5**run.depth, "residual": run.depth**-0.5}[run.network]
    near = {"initial": fall, "trained": 0.9, "white noise": 0.0, "brownian": 0.8}
    for source, correlation in near.items():
        for lag in (1, 4, 16):
            said = {"source": source, "lag": lag, "distance": lag / 16, "correlation": correlation / lag}
            same = {"correlation_std": 0.1, "gradient_norm": 1.0, "lines": 24, "points": 17, "statistics": "running"}
            yield said | same | {"examples": 500}


def paths_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    blocks = (run.depth - 2) // 2
    residual = run.network == "residual"
    for length in range(blocks + 1) if residual else (blocks,):
        share = math.comb(blocks, length) / 2**blocks if residual else 1.0
        for draw in range(3):
            norm = {"gradient_norm": 2.0 * 0.5**length * (1 + 0.1 * draw), "full_gradient_norm": 2.0}
            counts = {"paths": math.comb(blocks, length), "share": share, "blocks": blocks}
            yield norm | counts | {"length": length, "draw": draw, "statistics": "running", "examples": 64}


def landscape_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    rough = 0.02 * run.depth if run.network == "plain" else 0.0
    cuts = [("line", statistics, (0.0,)) for statistics in ("running", "batch")]
    for cut, statistics, across in [*cuts, ("surface", "running", (-1.0, 0.0, 1.0))]:
        for y in across:
            for x in (-1.0, 0.0, 1.0):
                loss = 0.5 + (1 + rough) * (x * x + 2 * y * y)
                place = {"cut": cut, "x": x, "y": y, "split": "train", "statistics": statistics}
                yield place | {"loss": loss, "error": min(0.9, loss / 4), "examples": 500}


def curvature_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    top = 10.0 * (run.depth if run.network == "plain" else 5)
    same = {"parameters": 1000, "statistics": "running", "examples": 500}
    for draw in range(2):
        for index, (value, weight) in enumerate([(top, 0.01), (0.1, 0.89), (-1.0, 0.1)]):
            ritz = {"quantity": "ritz", "index": index, "value": value, "weight": weight, "residual": 0.01 * top}
            yield ritz | same | {"draw": draw}
        missing = {"weight": float("nan"), "residual": float("nan")}
        yield missing | same | {"quantity": "trace", "index": 0, "value": 20 * top + draw, "draw": draw}


def construct_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    for made, more in (("shallow", 0), ("deep", 12)):
        for step in (0, 30, 60):
            for statistics in ("running", "batch"):
                error = 0.1 + (0.002 * step if made == "deep" and run.network == "plain" else 0)
                said = {"made": made, "made_depth": run.depth + more, "step": step, "statistics": statistics}
                same = {"split": "train", "examples": 500, "learning_rate": 0.01}
                yield (
                    said
                    | same
                    | {"loss": 3 * error, "error": error, "logit_difference": 0.0 if step == 0 else math.nan}
                )


def signal_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    bad, alike = (run.depth, 0.6) if run.network == "plain" else (4.0, 0.5)
    for state, step, trained in (("initial", 0, 1.0), ("trained", run.recipe.steps, 0.5)):
        same = {"state": state, "step": step, "statistics": "running", "examples": 64}
        same |= {"index": 0, "other": 0, "low": math.nan, "high": math.nan}
        numbers = {
            "jacobian-condition": 10 ** (0.1 * bad * trained),
            "ntk-cosine": 1 / bad,
            "ntk-condition": 100.0 * bad,
            "gradient-cosine-within": 0.2 * trained,
            "gradient-cosine-across": 0.1 * trained,
            "gradient-cosine-least": -0.02 * bad * trained,
        }
        for quantity, value in numbers.items():
            yield same | {"quantity": quantity, "value": value}
        noise = 50 * bad if trained == 1 else math.nan
        yield same | {"quantity": "noise-scale", "value": noise, "low": noise / 2, "high": 2 * noise}
        for place in range(10):
            yield same | {"quantity": "jacobian", "index": place, "value": 10.0 * 0.5**place}
        for layer in range(1, run.depth + 1):
            for other in range(layer, run.depth + 1):
                value = alike if other > layer else 1.0
                yield same | {"quantity": "cka", "index": layer, "other": other, "value": value}


ESTIMATORS = {
    "shatter": shatter_rows,
    "paths": paths_rows,
    "landscape": landscape_rows,
    "curvature": curvature_rows,
    "signal": signal_rows,
    "construct": construct_rows,
}
