"""The options of the commands, declared once: tokens -> dotted study fields and machine options."""

import functools
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from degradation import studies
from degradation.environment import DEVICES, Options
from degradation.errors import UseError
from degradation.refusals import suggestion
from degradation.spec import NETWORKS, PROBES

SHORTCUTS = ("A", "B", "C")
DATASETS = ("cifar10", "synthetic")
PRECISIONS = ("auto", "fp32", "bf16")
FORMATS = ("png", "svg", "pdf")
NO_PROBE = "none"

# Several values after one option


def _is_integer(token: str) -> bool:
    return (
        re.fullmatch(r"[+-]?\d+", token) is not None
    )  # negative ones too, so that they reach the check of values


MULTI_VALUE: dict[str, Callable[[str], bool]] = {
    "--depths": _is_integer,
    "--seeds": _is_integer,
    "--networks": NETWORKS.__contains__,
    "--shortcuts": SHORTCUTS.__contains__,
    "--probes": (*PROBES, NO_PROBE).__contains__,
    "--format": FORMATS.__contains__,
}
"""Option -> whether a token can be a further value of it."""


def expand(tokens: Sequence[str]) -> list[str]:
    """``--depths 20 32 quickstart`` -> ``--depths=20 --depths=32 quickstart``.

    An option of ``MULTI_VALUE`` takes its first value as any option does, then every token that can be one of
    its values, and nothing else; behind ``--`` nothing is touched.
    """
    expanded: list[str] = []
    rest = list(tokens)
    while rest and rest[0] != "--":
        token = rest.pop(0)
        option, equals, first = token.partition("=")
        if option not in MULTI_VALUE or (not equals and (not rest or rest[0].startswith("--"))):
            expanded.append(token)
            continue
        values = [first if equals else rest.pop(0)]
        while rest and MULTI_VALUE[option](rest[0]):
            values.append(rest.pop(0))
        expanded += [f"{option}={value}" for value in values]
    return expanded + rest


class MultiValueCommand(TyperCommand):
    """A command whose multi-value options take several values after one name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, expand(args))


# Options declared once, as dataclasses


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """The command with each parameter that is a dataclass replaced by its fields, as keywords."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        p.name: p.annotation for p in signature.parameters.values() if is_dataclass(p.annotation)
    }
    flat = [
        q
        for p in signature.parameters.values()
        for q in (_parameters(p.annotation) if p.name in groups else [p])
    ]

    @functools.wraps(command)
    def spread_out(**given: Any) -> int:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    spread_out.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    spread_out.__annotations__ = {p.name: p.annotation for p in flat}
    return spread_out


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])


def _choice(values: Iterable[str], help: str, panel: str, several: bool = False) -> Any:
    """An option of words. They are checked with the specification, so that every refusal is worded alike."""
    words = list(values)
    metavar = "NAME ..." if several else "|".join(words)
    return typer.Option(
        metavar=metavar,
        help=f"{help}: {', '.join(words)}." if several else help,
        rich_help_panel=panel,
        autocompletion=lambda: words,
    )


GRID, RECIPE, MEASURE, MACHINE = "What is studied", "Recipe", "What is measured", "Machine"

RootOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of all studies.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout; everything else goes to stderr.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FormatsOption = Annotated[
    list[str] | None, _choice(FORMATS, "File formats (default: png svg)", "Options", True)
]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What the command line says about a study; None where it says nothing."""

    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the study's folder.")] = None
    root: RootOption = studies.ROOT
    depths: Annotated[
        list[int] | None,
        typer.Option(metavar="N ...", help="Weighted layers, 6n+2: 8, 20, 32, ...", rich_help_panel=GRID),
    ] = None
    networks: Annotated[list[str] | None, _choice(NETWORKS, "Networks", GRID, several=True)] = None
    shortcuts: Annotated[list[str] | None, _choice(SHORTCUTS, "Shortcut options", GRID, several=True)] = None
    seeds: Annotated[
        list[int] | None,
        typer.Option(metavar="N ...", help="One run of everything for each.", rich_help_panel=GRID),
    ] = None
    dataset: Annotated[str | None, _choice(DATASETS, "Images.", GRID)] = None
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Updates of each run (paper: 64000).", rich_help_panel=RECIPE),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Choose the steps: 90s, 30m, 1h30m.", rich_help_panel=RECIPE),
    ] = None
    warmup_steps: Annotated[
        str | None,
        typer.Option(
            metavar="N|paper|default", help="Steps at the small learning rate.", rich_help_panel=RECIPE
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any field: recipe.momentum=0.8.", rich_help_panel=RECIPE),
    ] = None
    precision: Annotated[str | None, _choice(PRECISIONS, "Arithmetic.", RECIPE)] = None
    probes: Annotated[
        list[str] | None, _choice((*PROBES, NO_PROBE), "What to record inside", MEASURE, several=True)
    ] = None
    probe_every: Annotated[
        int | None, typer.Option(metavar="N", help="Steps between probe rows.", rich_help_panel=MEASURE)
    ] = None
    eval_every: Annotated[
        int | None, typer.Option(metavar="N", help="Steps between evaluations.", rich_help_panel=MEASURE)
    ] = None
    eval_examples: Annotated[
        int | None, typer.Option(metavar="N", help="Examples evaluated on the way.", rich_help_panel=MEASURE)
    ] = None

    def fields(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Dotted field -> value, and -> the option that said it. UseError where two say the same."""
        values: dict[str, Any] = {}
        said: dict[str, str] = {}
        for field, value, option in (*self._named(), *map(_setting, self.set or ())):
            if field in said:
                raise UseError(f"{option}: {field} is given twice, here and by {said[field]}: leave one out")
            values[field], said[field] = value, option
        return values, said

    def _named(self) -> Iterator[tuple[str, Any, str]]:
        for name, field in FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                yield field, READERS.get(name, _as_given)(value), f"--{name.replace('_', '-')}"


FIELDS = {
    "depths": "depths",
    "networks": "networks",
    "shortcuts": "shortcuts",
    "seeds": "seeds",
    "dataset": "dataset.name",
    "steps": "recipe.steps",
    "warmup_steps": "recipe.warmup_steps",
    "precision": "precision",
    "probes": "measure.probes",
    "probe_every": "measure.probe_every",
    "eval_every": "measure.eval_every",
    "eval_examples": "measure.eval_examples",
}
"""Option -> the field of the study that it sets."""


def _as_given(value: Any) -> Any:
    return value


def _warmup(text: str) -> int | str:
    return int(text) if _is_integer(text) else text


def _probes(names: list[str]) -> list[str]:
    if NO_PROBE in names and len(names) > 1:
        raise UseError(
            f"--probes: '{NO_PROBE}' stands alone, not beside {names[1 - names.index(NO_PROBE)]!r}"
        )
    return [] if names == [NO_PROBE] else names


READERS: dict[str, Callable[[Any], Any]] = {"warmup_steps": _warmup, "probes": _probes}


def _setting(text: str) -> tuple[str, Any, str]:
    """``recipe.momentum=0.8`` -> its field, its value as TOML (a bare word is a text), the option."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise UseError(f"--set: expected KEY=VALUE such as recipe.momentum=0.8, not {text!r}")
    return field.strip(), _toml(value.strip()), f"--set {field.strip()}"


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def seconds(budget: str) -> float:
    """``1h30m`` -> 5400.0. UseError where it is no time above zero."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", budget.strip())
    hours, minutes, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + rest
    if not total:
        raise UseError(f"--budget: expected a time such as 90s, 30m, 2h or 1h30m, not {budget!r}")
    return float(total)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how the runs are carried out: nothing here changes what a run is."""

    device: Annotated[str, _choice(DEVICES, "Where to train.", MACHINE)] = "auto"
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads of each run.", rich_help_panel=MACHINE)
    ] = None
    jobs: Annotated[
        str, typer.Option(metavar="auto|N", help="Runs trained at the same time.", rich_help_panel=MACHINE)
    ] = "auto"
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The same bits every time, slower.", rich_help_panel=MACHINE),
    ] = False
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the CIFAR-10 files.", rich_help_panel=MACHINE),
    ] = None

    def checked(self) -> Options:
        """The options as the runner takes them. UseError names the one that is impossible."""
        device = next((known for known in DEVICES if known == self.device), None)
        if device is None:
            hint = suggestion(self.device, DEVICES)
            raise UseError(f"--device: expected {', '.join(DEVICES)}, not {self.device!r}{hint}")
        return Options(
            device=device,
            threads=_positive("--threads", self.threads),
            jobs=None if self.jobs == "auto" else _positive("--jobs", self.jobs),
            deterministic=self.deterministic,
            data_dir=self.data_dir,
        )


def _positive(option: str, value: int | str | None) -> int | None:
    if value is None or (_is_integer(str(value)) and int(value) >= 1):
        return None if value is None else int(value)
    also = "auto or " if option == "--jobs" else ""
    raise UseError(f"{option}: expected {also}a whole number of at least 1, not {value!r}")
