"""Rows and sentences -> escaped HTML for a notebook's cell, in the colours of the notebook."""

from collections.abc import Iterable, Sequence

_TEXT = ' style="text-align:left;vertical-align:top"'
_TABLE = """\
<table>
<thead><tr>{% for heading in headings %}<th{{ style|safe }}>{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td{{ style|safe }}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
"""
_LINES = "{% for line in lines %}<div>{{ line }}</div>\n{% endfor %}"
_FOLDED = "<details><summary>{{ summary }}</summary>\n{{ body|safe }}</details>\n"


def _filled(template: str, **values: object) -> str:
    from jinja2 import Environment  # imported only when a notebook shows something

    return Environment(autoescape=True, trim_blocks=True).from_string(template).render(**values)


def heading(bold: str, rest: str = "") -> str:
    """One line that begins with bold words."""
    return _filled("<div><b>{{ bold }}</b>{{ rest }}</div>\n", bold=bold, rest=rest)


def lines(texts: Iterable[str]) -> str:
    """One line per text."""
    return _filled(_LINES, lines=list(texts))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts without colours, so that light and dark notebooks style it."""
    return _filled(_TABLE, headings=headings, rows=rows, style=_TEXT)


def folded(summary: str, body: str) -> str:
    """HTML of this module that is hidden until the reader opens it."""
    return _filled(_FOLDED, summary=summary, body=body)
