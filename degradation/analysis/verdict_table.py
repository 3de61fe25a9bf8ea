"""Results -> the verdicts on all claims as one object: words, a pandas frame, a table in a notebook."""

from collections.abc import Sequence
from typing import overload

import pandas as pd

from degradation.analysis import Analysis, analyse
from degradation.analysis.estimates import NOT_MEASURED, Verdict
from degradation.errors import UserError
from degradation.frames import notebook_html
from degradation.spec.validation import check_kind
from degradation.study.results import Results

COLUMNS = ("claim", "statement", "verdict", "why", "threshold", "source")
SHOWN = ("statement", "verdict", "why")


class Verdicts(Sequence[Verdict]):
    """The verdicts of a study, one a claim, with the answer to its question.

    A notebook shows the answer and a table of the claims that were measured. ``str()`` gives the same in words.

    Parameters
    ----------
    name
        The study's name.
    analysis
        The analysis of its frames.
    """

    def __init__(self, name: str, analysis: Analysis) -> None:
        self.name, self.answer, self._all = name, analysis.answer, analysis.verdicts
        self._holm = analysis.holm

    @overload
    def __getitem__(self, place: int) -> Verdict: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Verdict]: ...
    def __getitem__(self, place: int | slice) -> Verdict | Sequence[Verdict]:
        return self._all[place]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a claim, with ``COLUMNS``: its statement, the verdict, why, the threshold and the source."""
        rows = [[getattr(verdict, column) for column in COLUMNS] for verdict in self._all]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def __str__(self) -> str:
        judged = [f"{each.verdict}: {each.statement} ({each.why})" for each in self._judged()]
        return "\n".join([*self.answer, "", *judged, f"{NOT_MEASURED}: {len(self) - len(judged)} claims"])

    def __repr__(self) -> str:
        return f"<Verdicts on {self.name}: {len(self._judged())} of {len(self)} claims measured>"

    def _repr_html_(self) -> str:
        judged = [[getattr(each, column) for column in SHOWN] for each in self._judged()]
        unmeasured = [each.statement for each in self._all if each.verdict == NOT_MEASURED]
        parts = [
            notebook_html.heading(f"Verdicts on {self.name}", f": {len(judged)} of {len(self)} claims measured"),
            notebook_html.lines(self.answer),
            notebook_html.table(SHOWN, judged) if judged else "",
            notebook_html.lines([self._holm]),
        ]
        if unmeasured:
            title = f"{len(unmeasured)} {NOT_MEASURED}"
            parts.append(notebook_html.folded(title, notebook_html.lines(unmeasured)))
        return "".join(parts)

    def _judged(self) -> list[Verdict]:
        return [each for each in self._all if each.verdict != NOT_MEASURED]


def verdicts(results: Results) -> Verdicts:
    """Judge each claim by the measurements of a study: supported, contradicted, not enough evidence, not measured.

    Parameters
    ----------
    results : Results
        What ``degradation.run`` or ``degradation.load`` returned.

    Returns
    -------
    Verdicts
        A sequence of verdicts with ``answer`` and ``frame``; a notebook shows it as a table.

    Raises
    ------
    UserError
        ``results`` is something else, or no run is done.
    DamagedError
        A file has changed since it was written.

    Examples
    --------
    >>> import degradation
    >>> found = degradation.verdicts(degradation.load("reports/digits"))
    >>> found
    <Verdicts on digits: 24 of 36 claims measured>
    """
    check_kind("results", results, Results, 'what degradation.load("runs/NAME") returns')
    if not results.run_ids:
        raise UserError(f"no run of {results.name} is done: there is nothing to judge yet")
    return Verdicts(results.name, analyse(results))
