"""Verdicts and what the arms change -> the answer to the study's question, in three sentences or four."""

from collections.abc import Iterator, Sequence

from degradation.analysis.claims import claims
from degradation.analysis.findings import VERDICTS, Caveat, Estimate, Verdict

PLAIN, RESIDUAL, SHORTCUT = "plain-degrades", "residual-does-not-degrade", "shortcut-lowers-error"
ARMS = "arm-gap"
LIMITS = ("no-run", "not-converged", "images", "one-seed")
"""Kinds of caveats without which the first two sentences would mislead."""


def answer(verdicts: Sequence[Verdict], caveats: Sequence[Caveat], estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """What plain networks do, what shortcuts change, what the arms of a study change, and what cannot be said.

    Each of the first two speaks of converged networks where these were judged, else of the steps that were trained.
    """
    return (
        _sentence([PLAIN], verdicts) or "What more layers do to a plain network was not measured.",
        _sentence([RESIDUAL, SHORTCUT], verdicts) or "What shortcuts change was not measured.",
        *_of_arms([each for each in estimates if each.name == ARMS]),
        _reach(verdicts, caveats),
    )


def _of_arms(gaps: Sequence[Estimate]) -> Iterator[str]:
    """How much more the deepest network is behind in each arm than in the first; nothing without arms."""
    if gaps:
        said = "; ".join(each.sentence for each in gaps)
        yield f"How much more the deepest network is behind than in the first arm, each interval by itself: {said}."


def _sentence(names: Sequence[str], verdicts: Sequence[Verdict]) -> str:
    """The clauses of the claims that were judged, opened by the steps where they are not of converged networks."""
    judged = [found for name in names if (found := _judged(name, verdicts))]
    clauses = "; ".join(_clause(found) for found in judged)
    steps = sorted({each for found in judged for each in found.steps})
    when = f"after {' and '.join(f'{each:,}' for each in steps)} steps, " if steps else ""
    return _capital(when + clauses) if clauses else ""


def _judged(name: str, verdicts: Sequence[Verdict]) -> Verdict | None:
    return next((each for each in verdicts if each.claim == name and each.verdict != "not measured"), None)


def _clause(found: Verdict) -> str:
    claim = next(each for each in claims() if each.id == found.claim)
    if claim.answer is None:
        return ""
    decided = found.verdict in ("supported", "contradicted")
    template = getattr(claim.answer, found.verdict) if decided else claim.answer.open
    return str(template.format(estimates="; ".join(each.sentence for each in found.estimates), why=found.why))


def _reach(verdicts: Sequence[Verdict], caveats: Sequence[Caveat]) -> str:
    texts = {caveat.kind: caveat.text.rstrip(".") for caveat in caveats}
    limits = [_continued(texts[kind]) for kind in LIMITS if kind in texts]
    counts = ", ".join(f"{sum(each.verdict == word for each in verdicts)} {word}" for word in VERDICTS)
    return _capital("; ".join([*limits, f"of {len(verdicts)} claims: {counts}"]))


def _continued(text: str) -> str:
    """The text within a sentence: a small first letter, but for a name such as CIFAR-10."""
    return text if text[1].isupper() else text[0].lower() + text[1:]


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
