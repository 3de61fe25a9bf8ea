"""What a recording says -> the table that a notebook shows of it."""

from degradation.frames import notebook_html
from degradation.recording.summary import SummaryInput, findings_of, summary

COLUMNS = ("kind", "what was found", "what to try")


class NotebookView:
    """How a recording is shown in a notebook: its summary, with the findings as a table."""

    def _everything(self) -> SummaryInput:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {summary(self._everything()).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        told = self._everything()
        found = findings_of(told)
        shown = {one.text for one in found}
        words = [line for line in summary(told).splitlines() if line not in shown and not line.startswith("  try: ")]
        rows = [(one.kind, one.text, one.try_) for one in found]
        table = notebook_html.table(COLUMNS, rows) if rows else ""
        return notebook_html.heading("Recording: ", words[0]) + table + notebook_html.lines(words[1:])
