"""`claims.toml` -> claims as frozen data, and the estimates that each one uses."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Literal, NamedTuple

from pydantic import Field

from degradation.analysis import formatting
from degradation.analysis.estimates import Estimate
from degradation.spec import Frozen

BASE_DEPTH = 20
"""The shallow network of the paper's comparisons: a shallower one has too little capacity and hides degradation."""


class Sentences(Frozen):
    """A clause of the answer for each verdict."""

    supported: str
    contradicted: str
    open: str


class Claim(Frozen):
    """One statement; the head of `claims.toml` explains the fields."""

    id: str
    statement: str
    after: str = ""
    source: str
    literature: str
    estimate: str = ""
    where: tuple[dict[str, str], ...] = ()
    deep: int = 0
    depth: int = 0
    other_blocks: bool = False
    supports: Literal["above", "below", "within"] = "above"
    threshold: float = 0.0
    because: str = ""
    reads: str = ""
    means: dict[Literal["above", "below"], str] = Field(default={})
    experiment: str = ""
    needs: str
    answer: Sentences | None = None

    @property
    def family(self) -> str:
        """The group of claims whose p-values are adjusted together with its own, see ``verdicts.FAMILIES``."""
        if self.experiment:
            return "experiments"
        return "time" if self.estimate.startswith("time-") else "the runs themselves"


class Case(NamedTuple):
    """A claim as it is judged: of converged networks, or after the steps of networks that have not converged."""

    claim: Claim
    statement: str
    steps: tuple[int, ...]
    """Steps after which it is judged; empty for the statement on converged networks, or without a schedule."""
    estimates: tuple[Estimate, ...]
    """One estimate for each entry of `where`, arm and kind of network."""
    complete: bool
    """Whether every entry of `where` has an estimate."""


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim, in the file's order."""
    text = files("degradation.analysis").joinpath("claims.toml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(fields) for fields in tomllib.loads(text)["claim"])


def case_of(claim: Claim, estimates: Sequence[Estimate]) -> Case:
    """The claim on converged networks if all runs of its estimates have converged, else after their steps.

    Estimates count if they are of the claim's depth or more, and of the paper's blocks unless the claim is on others.
    The deepest network decides, converged or not: a claim must not silently use a shallower converged one.
    """
    counting = [each for each in estimates if each.name == claim.estimate and _depth(each, "deep") >= claim.depth]
    counting = [each for each in counting if claim.other_blocks or not each.context.get("block")]
    deep = [each for each in counting if _depth(each, "deep") >= claim.deep]
    deep = [each for each in deep if not claim.deep or _depth(each, "shallow") >= BASE_DEPTH]
    chosen, complete = _chosen(claim, deep)
    if claim.after and not (complete and all(each.context["converged"] == "yes" for each in chosen)):
        chosen, complete = _chosen(claim, counting)
        steps = tuple(sorted({int(each.context["steps"]) for each in chosen})) if complete else ()
        statement = claim.after.format(steps=formatting.thousands(steps)) if steps else claim.statement
        return Case(claim, statement, steps, chosen, complete)
    return Case(claim, claim.statement, (), chosen, complete)


def unmeasured(claim: Claim) -> str:
    """Why a claim was not measured, and what is needed."""
    if not claim.estimate:
        return f"no measurement exists yet; needs {claim.needs}"
    return f"needs the experiment '{claim.experiment}' on {claim.needs}" if claim.experiment else f"needs {claim.needs}"


def _chosen(claim: Claim, estimates: Sequence[Estimate]) -> tuple[tuple[Estimate, ...], bool]:
    """For each entry of `where`, arm and kind: the estimate of the deepest network, against the shallowest."""
    chosen: list[Estimate] = []
    complete = bool(claim.where)
    for context in claim.where:
        fitting = [each for each in estimates if context.items() <= each.context.items()]
        # One without a value because runs diverged stays: its claim must not silently use a shallower network.
        fitting = [each for each in fitting if each.value is not None or "diverged" in each.context]
        complete &= bool(fitting)
        for _, group in groupby(sorted(fitting, key=_group), key=_group):
            chosen.append(min(group, key=lambda each: (-_depth(each, "deep"), _depth(each, "shallow"))))
    return tuple(chosen), complete


def _group(estimate: Estimate) -> tuple[str, str]:
    return estimate.context.get("arm", ""), estimate.context.get("kind", "")


def _depth(estimate: Estimate, name: str) -> int:
    """The deep or shallow network's depth; of an estimate at one depth, that depth."""
    return int(estimate.context.get(name) or estimate.context.get("depth") or "0")
