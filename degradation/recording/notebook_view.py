"""The summary of a recording -> its display in a notebook."""

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
        inputs = self._everything()
        rows = [(finding.kind, finding.text, finding.try_) for finding in findings_of(inputs)]
        texts = {text for _, text, _ in rows}
        lines = [line for line in summary(inputs).splitlines() if line not in texts and not line.startswith("  try: ")]
        table = notebook_html.table(COLUMNS, rows) if rows else ""
        return notebook_html.heading("Recording: ", lines[0]) + table + notebook_html.lines(lines[1:])
