"""The content of a report -> one HTML page, or the same in GitHub's Markdown."""

import re
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from degradation.analysis.estimates import NOT_MEASURED, tally
from degradation.report import tables
from degradation.report.content import Contents
from degradation.report.evolution import end, path

TEMPLATES = files("degradation.report") / "templates"
SYMBOLS = {"supported": "✓", "contradicted": "✗", "not enough evidence": "?", NOT_MEASURED: "–"}
SECTIONS = {
    "answer": "Answer",
    "verdicts": "Verdicts",
    "caveats": "Caveats, and what is missing",
    "pairs": "Do the pairs match?",
    "figures": "Figures",
    "evolution": "How gradients and responses evolve",
    "published": "Comparison with published values",
    "estimates": "Estimates",
    "again": "Run it again",
    "provenance": "Provenance",
}


def html(it: Contents) -> str:
    """The page: one file that loads nothing from the network; every name in it is escaped."""
    environment = _environment(autoescape=True)
    steps = sorted({step for evolution in it.evolutions for step in evolution.steps})
    sections = {name: heading for name, heading in SECTIONS.items() if name != "evolution" or it.evolutions}
    return environment.get_template("report.html").render(
        **_shared(it),
        css=Markup(TEMPLATES.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(TEMPLATES.joinpath("slider.js").read_text(encoding="utf-8")),
        numbers={"steps": steps, "evolutions": {e.quantity.slug: e.numbers for e in it.evolutions}},
        steps=steps,
        sections=sections.items(),
        path=path,
        end=end,
    )


def markdown(it: Contents, images: Mapping[str, str]) -> str:
    """The same texts and tables in Markdown; ``images``: name of a figure -> the link to its file, if any."""
    environment = _environment(autoescape=False)
    environment.finalize = escaped
    environment.filters["verbatim"] = Verbatim
    text = environment.get_template("report.md").render(**_shared(it), images=images)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("degradation.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sentence"] = sentence
    return environment


def sentence(words: str) -> str:
    """The text with a capital letter at the start and a full stop at the end."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _shared(it: Contents) -> dict[str, Any]:
    compared = it.analysis.compared
    return {
        "it": it,
        "SYMBOLS": SYMBOLS,
        "tested": [verdict for verdict in it.analysis.verdicts if verdict.verdict != NOT_MEASURED],
        "untested": [verdict for verdict in it.analysis.verdicts if verdict.verdict == NOT_MEASURED],
        "tally": tally(it.analysis.verdicts),
        "differences": tables.difference_sentence(it.proof),
        "pair_headings": tables.PAIRS,
        "pair_rows": tables.pair_rows(it.proof),
        "field_rows": tables.field_rows(it.proof),
        "compared_headings": tables.COMPARED,
        "compared_rows": tables.compared_rows(compared),
        "incomparable": tables.incomparable(compared),
        "estimates": tables.estimate_groups(it.analysis.estimates),
        "provenance_rows": tuple(it.provenance.items()),
        "command": [shlex.quote(word) for word in it.again],
    }


class Verbatim(str):
    """Text that is not escaped for Markdown: inside a code block, or one of our links."""


def escaped(value: Any) -> Any:
    """A value escaped for Markdown: no markup of Markdown or HTML, no line break in a table row."""
    if isinstance(value, Verbatim) or not isinstance(value, str):
        return value
    text = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$@])", r"\\\1", text)
