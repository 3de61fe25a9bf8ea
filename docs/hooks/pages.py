"""Pages made from the code itself at each build: the command line, the frames, the claims and the gallery."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

import degradation.frames.schemas as schemas
from degradation import experiments
from degradation.analysis.claims import Claim, claims
from degradation.cli.app import app
from degradation.experiments import evaluate
from degradation.study import library


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for uri, page in PAGES.items():
        files.append(File.generated(config, uri, content="\n".join(page()) + "\n"))
    return files


def table(*rows: tuple[str, ...]) -> Iterator[str]:
    """A Markdown table; the first row is its head."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
        if not number:
            yield f"|{'---|' * len(row)}"


# The command line


def command_line() -> Iterator[str]:
    """Every command with its arguments and options, as the parser knows them."""
    group: Any = typer.main.get_command(app)
    yield "# The command line\n"
    yield "`degradation COMMAND --help` prints the same. Options that take several values take them one after another:"
    yield "`--depths 20 32 56`.\n"
    for name, command in group.commands.items():
        yield f"## {name}\n"
        yield f"{plain(command.help)}\n"
        rows = [(_code(_names(each)), plain(each.help), _default(each)) for each in command.params]
        yield from table(("option", "what it is", "default"), *rows)
        yield ""


def plain(text: str | None) -> str:
    """Help without the parser's colours, its line breaks and its control characters; blank lines stay."""
    text = re.sub(r"\[/?[a-z ]+\]|\x08", "", inspect.cleandoc(text or ""))
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(part.replace("<", "&lt;") for part in paragraphs)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    return ", ".join([*parameter.opts, *parameter.secondary_opts]) + value


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value in (None, False, ()) or callable(value) else _code(str(value))


def _code(text: str) -> str:
    """Code in a cell of a table, in which a bar would end the cell."""
    return f"<code>{text.replace('<', '&lt;').replace('|', '&#124;')}</code>"


# Frames


def frames() -> Iterator[str]:
    """Every column of every frame with its type, and the comment that stands beside it in the code."""
    source = Path(schemas.__file__).read_text()
    notes = comments(source)
    yield "# Frames\n"
    yield f"{' '.join(inspect.cleandoc(schemas.__doc__ or '').split(chr(10), 2)[2].split())}\n"
    keys = ", ".join(f"`{key}`" for key in schemas.KEYS)
    yield f"`degradation.load` puts the columns {keys} before the measured ones."
    yield "A frame lies in the run's folder as a parquet file of its name.\n"
    for name, columns in schemas.SCHEMAS.items():
        yield f"## {name}\n"
        yield from _columns(columns, notes | comments(source.split(f'"{name}": {{')[1].split("}")[0]))
    yield "## Frames of experiments\n"
    yield f"They have the columns {keys} as well.\n"
    for experiment in map(experiments.experiment_named, experiments.REGISTRY):
        yield f"### {experiment.name}\n"
        yield f"{experiment.question}\n"
        own = comments(inspect.getsource(inspect.getmodule(experiment.measure) or evaluate))
        yield from _columns(experiment.columns, notes | comments(inspect.getsource(evaluate)) | own)


def _columns(columns: Mapping[str, str], notes: Mapping[str, str]) -> Iterator[str]:
    rows = [(f"`{column}`", kind, notes.get(column, "")) for column, kind in columns.items()]
    yield from table(("column", "type", "what it is"), *rows)
    yield ""


def comments(source: str) -> dict[str, str]:
    """``"column": TYPE,  # what it is`` in source code -> what each column is, as it is said first."""
    found: dict[str, str] = {}
    for column, note in re.findall(r'^\s*"(\w+)": [A-Z]+,\s+# (.+)$', source, flags=re.MULTILINE):
        found.setdefault(column, note)
    return found


# Claims


def claims_page() -> Iterator[str]:
    """Every claim with its threshold, what it needs and where it comes from."""
    yield "# Claims and their thresholds\n"
    yield "What is said of plain and residual networks, and when the measurements of a study support or contradict"
    yield "it. The thresholds are the same for all studies; `degradation/analysis/claims.toml` says what was known when"
    yield "each was fixed. The whole interval must lie beyond the threshold, adjusted by Holm's method for the number"
    yield "of claims that are tested.\n"
    for claim in claims():
        yield f"## {claim.id}\n"
        yield f"**{claim.statement}**\n"
        yield from table(("field", "value"), *((name, value) for name, value in _facts(claim) if value))
        yield ""


def _facts(claim: Claim) -> Iterator[tuple[str, str]]:
    yield "while not converged", claim.after.replace("{steps}", "N")
    yield "source", claim.source
    yield "in the literature", claim.literature
    yield "needs", claim.needs
    yield "experiment", claim.experiment
    yield "estimate", f"`{claim.estimate}`" if claim.estimate else "none yet: nothing here measures it"
    yield "supported", f"{claim.supports} {claim.threshold:g}" if claim.estimate else ""
    yield "because", claim.because


# The gallery


def gallery() -> Iterator[str]:
    """Each study with a report: its question, the answer's first sentences and the answer's figure."""
    yield "# Gallery of studies\n"
    yield "Every study that ships. Those with a figure were run here; the sentences are the first of their answers.\n"
    reported = library.reported()
    for name, path in library.shipped().items():
        yield f"## {name}\n"
        yield f"**{library.question(path)}**\n"
        if name not in reported:
            yield f"No report here yet: `degradation run {name}`, then `degradation report {name}`.\n"
            continue
        yield f"{first_sentences(reported[name].read_text())}\n"
        yield f"[![The answer of the study {name}](../reports/{name}/answer.png)](../reports/{name}/report.md)\n"
        yield f"[Its report](../reports/{name}/report.md)\n"


def first_sentences(report: str) -> str:
    """The first paragraph of the answer in a report."""
    return report.split("## Answer\n\n")[1].split("\n\n")[0]


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "reference/command-line.md": command_line,
    "reference/frames.md": frames,
    "reference/claims.md": claims_page,
    "gallery.md": gallery,
}
