"""`claims.toml` -> claims as frozen data, and the estimates that each one rests on."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any, Literal, NamedTuple

from degradation.analysis.findings import Estimate
from degradation.spec import Frozen

BASE_DEPTH = 20
"""The shallow network of the paper's comparisons: an even shallower one lacks capacity, and would hide degradation."""


class Sentences(Frozen):
    """What the answer says, by verdict."""

    supported: str
    contradicted: str
    open: str


class Claim(Frozen):
    """One statement; the head of `claims.toml` says what each field means."""

    id: str
    statement: str
    after: str = ""
    source: str
    literature: str
    estimate: str = ""
    where: tuple[dict[str, str], ...] = ()
    deep: int = 0
    supports: Literal["above", "below", "within"] = "above"
    threshold: float = 0.0
    because: str = ""
    mechanism: str = ""
    needs: str
    answer: Sentences | None = None


class Case(NamedTuple):
    """A claim as it is judged: of converged networks, or after the steps of a shorter schedule."""

    claim: Claim
    name: str
    statement: str
    estimates: tuple[Estimate, ...]
    """One for each entry of `where`, arm and kind of network."""
    complete: bool
    """Whether every entry of `where` found one."""
    absent: str
    """Why there is none."""


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim, in the file's order."""
    text = files("degradation.analysis").joinpath("claims.toml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(fields) for fields in tomllib.loads(text)["claim"])


def cases(found: Sequence[Claim], estimates: Sequence[Estimate]) -> tuple[Case, ...]:
    """Each claim once for converged networks, and where there are shorter runs once for what they can say.

    Claims are of the paper's blocks: networks of other blocks have estimates, and no say in them.
    """
    estimates = [each for each in estimates if not each.context.get("block")]
    short = [each for each in estimates if each.context.get("schedule") == "short"]
    judged = []
    for claim in found:
        judged.append(_converged(claim, estimates))
        if claim.after and short:
            judged.append(_after(claim, short))
    return tuple(judged)


def _converged(claim: Claim, estimates: Sequence[Estimate]) -> Case:
    # A claim without a twin does not depend on the schedule.
    able = [each for each in estimates if not claim.after or each.context.get("schedule") == "paper"]
    deep = [each for each in able if _depth(each, "deep") >= claim.deep]
    based = [each for each in deep if not claim.deep or _depth(each, "shallow") >= BASE_DEPTH]
    rests, complete = _chosen(claim, based)
    return Case(claim, claim.id, claim.statement, rests, complete, _absent(claim, estimates, able))


def _after(claim: Claim, short: Sequence[Estimate]) -> Case:
    lengths = sorted({int(each.context["steps"]) for each in short})
    statement = claim.after.format(steps=" and ".join(f"{steps:,}" for steps in lengths))
    rests, complete = _chosen(claim, short)
    return Case(claim, f"{claim.id}-after", statement, rests, complete, _needs(claim))


def _absent(claim: Claim, estimates: Sequence[Estimate], able: Sequence[Estimate]) -> str:
    if not claim.estimate:
        return f"nothing here measures it yet: it would take {claim.needs}"
    if estimates and not able:
        steps = " or ".join(f"{steps:,}" for steps in sorted({int(each.context["steps"]) for each in estimates}))
        more = "" if _chosen(claim, estimates)[1] else f"; {_needs(claim)}"
        return f"speaks of converged networks: needs the paper's 64,000 steps, not {steps}{more}"
    depth = f", the deepest of depth {claim.deep} or more" if claim.deep else ""
    return f"{_needs(claim)}{depth}"


def _needs(claim: Claim) -> str:
    return f"needs the experiment '{claim.mechanism}' on {claim.needs}" if claim.mechanism else f"needs {claim.needs}"


def _chosen(claim: Claim, estimates: Sequence[Estimate]) -> tuple[tuple[Estimate, ...], bool]:
    """For each entry of `where`, arm and kind: the estimate of the deepest network, against the shallowest."""
    chosen: list[Estimate] = []
    complete = bool(claim.where)
    for where in claim.where:
        fitting = [each for each in estimates if each.name == claim.estimate and _says(each.context, where)]
        # One that has no value because runs diverged stays: its claim must not quietly rest on a shallower network.
        fitting = [each for each in fitting if each.value is not None or "diverged" in each.context]
        complete &= bool(fitting)
        for _, group in groupby(sorted(fitting, key=_group), key=_group):
            chosen.append(min(group, key=lambda each: (-_depth(each, "deep"), _depth(each, "shallow"))))
    return tuple(chosen), complete


def _says(context: dict[str, str], where: dict[str, Any]) -> bool:
    return all(context.get(name) == value for name, value in where.items())


def _group(estimate: Estimate) -> tuple[str, str]:
    return estimate.context.get("arm", ""), estimate.context.get("kind", "")


def _depth(estimate: Estimate, name: str) -> int:
    """The deep or shallow network's depth; of an estimate at one depth, that depth."""
    found = estimate.context.get(name) or estimate.context.get("depth") or "0"
    return int(found)
