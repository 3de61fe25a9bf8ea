"""The content of a report, collected once for the HTML page and for its Markdown twin."""

from collections.abc import Sequence
from dataclasses import dataclass

from degradation._version import __version__
from degradation.analysis import Analysis, analyse, gradients, responses
from degradation.errors import UserError
from degradation.figures.layout import provenance_facts, study_labels
from degradation.figures.tidy import DRAWN
from degradation.report.drawings import Drawing, drawings, summary
from degradation.report.evolution import Evolution, evolutions
from degradation.report.marks import marks_of
from degradation.report.pairs import Proof, proof
from degradation.study.results import Results

COLUMNS = {
    "gradients": tuple(dict.fromkeys((*DRAWN["gradients"], *gradients.READ))),
    "responses": tuple(dict.fromkeys((*DRAWN["responses"], *responses.READ))),
}
"""Columns of large frames that the analysis and the figures need, read together."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The content of a report. ``again``: the command that runs the study from the start."""

    name: str
    question: str
    labels: tuple[str, ...]
    analysis: Analysis
    proof: Proof
    summary: Drawing | None
    """The figure next to the answer."""
    drawings: tuple[Drawing, ...]
    left_out: tuple[str, ...]
    """Why each other figure is missing, one sentence each."""
    evolutions: tuple[Evolution, ...]
    provenance: dict[str, str]
    runs: int
    again: tuple[str, ...]
    version: str = __version__
    """The version that writes the report; the version that trained the runs is in the provenance."""


def contents(results: Results, again: Sequence[str]) -> Contents:
    """Collect the content of a study's report. The same frames, packages and ``again`` give equal content.

    Raises UserError if no run is done.
    """
    if not results.run_ids:
        raise UserError(f"no run of {results.name} is done: nothing to report yet")
    for frame, columns in COLUMNS.items():
        results.frame(frame, columns)
    analysis = analyse(results)
    drawn, skipped = drawings(results, marks_of(analysis.compared))
    return Contents(
        name=results.name,
        question=results.study.question,
        labels=tuple(study_labels(results)),
        analysis=analysis,
        proof=proof(results),
        summary=summary(results, analysis.estimates),
        drawings=drawn,
        left_out=tuple(f"{reason[0].upper()}{reason[1:]}." for reason in skipped),
        evolutions=evolutions(results),
        provenance=provenance_facts(results),
        runs=len(results.run_ids),
        again=tuple(again),
    )
