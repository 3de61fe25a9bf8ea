"""The options of the commands, declared once: tokens -> dotted study fields and machine options."""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from degradation import studies
from degradation.commands.tokens import FORMATS, NO_PROBE, SHORTCUTS, is_integer
from degradation.commands.values import one_of, positive, ray_options
from degradation.environment import DEVICES, LAUNCHERS, Options
from degradation.errors import UseError
from degradation.refusals import suggestion
from degradation.spec import NETWORKS, PROBES

DATASETS = ("cifar10", "synthetic")
PRECISIONS = ("auto", "fp32", "bf16")

DEFAULT_FORMATS = ["png", "svg"]

# Options declared once, as dataclasses


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


def _names(incomplete: str) -> list[str]:
    return [name for name in (*studies.on_disk(), *studies.shipped()) if name.startswith(incomplete)]


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY", help="A study that ships, one that was run, or a .toml file.", autocompletion=_names
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A study under --root, or a path to one.", autocompletion=_names)
]
OtherName = Annotated[str, typer.Argument(metavar="OTHER", help="The study to compare with it.", autocompletion=_names)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="A study on disk; none: all.", autocompletion=_names)
]
RootOption = Annotated[str, typer.Option(metavar="DIR|URL", help="Folder of all studies: a path, s3://..., gs://...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; everything else goes to stderr.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FormatsOption = Annotated[list[str] | None, _choice(FORMATS, "File formats (default: png svg)", "Options", True)]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What the command line says about a study; None where it says nothing."""

    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the study's folder.")] = None
    root: RootOption = studies.ROOT
    depths: Annotated[
        list[str] | None,
        typer.Option(metavar="N ...", help="Weighted layers, 6n+2: 8, 20, 32, ...", rich_help_panel=GRID),
    ] = None
    networks: Annotated[list[str] | None, _choice(NETWORKS, "Networks", GRID, several=True)] = None
    shortcuts: Annotated[list[str] | None, _choice(SHORTCUTS, "Shortcut options", GRID, several=True)] = None
    seeds: Annotated[
        list[str] | None,
        typer.Option(metavar="N ...", help="One run of everything for each.", rich_help_panel=GRID),
    ] = None
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="An arm for each value: norm=batch,none.", rich_help_panel=GRID),
    ] = None
    dataset: Annotated[str | None, _choice(DATASETS, "Images.", GRID)] = None
    steps: Annotated[
        str | None,
        typer.Option(metavar="N", help="Updates of each run (paper: 64000).", rich_help_panel=RECIPE),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Choose the steps: 90s, 30m, 1h30m.", rich_help_panel=RECIPE),
    ] = None
    warmup_steps: Annotated[
        str | None,
        typer.Option(metavar="N|paper|default", help="Steps at the small learning rate.", rich_help_panel=RECIPE),
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
        str | None, typer.Option(metavar="N", help="Steps between probe rows.", rich_help_panel=MEASURE)
    ] = None
    eval_every: Annotated[
        str | None, typer.Option(metavar="N", help="Steps between evaluations.", rich_help_panel=MEASURE)
    ] = None
    eval_examples: Annotated[
        str | None, typer.Option(metavar="N", help="Examples evaluated on the way.", rich_help_panel=MEASURE)
    ] = None

    def fields(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Dotted field -> value, and -> the option that said it. UseError where two say the same."""
        values: dict[str, Any] = {}
        said: dict[str, str] = {}
        for field, value, option in (*self._named(), *_arms(self.vary or ()), *map(_setting, self.set or ())):
            if field in said:
                raise UseError(f"{option}: {field} is given twice, here and by {said[field]}: leave one out")
            values[field], said[field] = value, option
        return values, said

    def _named(self) -> Iterator[tuple[str, Any, str]]:
        for name, field in FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                read = READERS.get(name)
                yield field, read(value) if read else value, f"--{name.replace('_', '-')}"


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


def _number(text: str) -> int | str:
    """A whole number; any other text as it is: the specification says what it expected."""
    return int(text) if is_integer(text) else text


def _numbers(texts: list[str]) -> list[int | str]:
    return [_number(text) for text in texts]


def _probes(names: list[str]) -> list[str]:
    if NO_PROBE in names and len(names) > 1:
        raise UseError(f"--probes: '{NO_PROBE}' stands alone, not beside {names[1 - names.index(NO_PROBE)]!r}")
    return [] if names == [NO_PROBE] else names


READERS: dict[str, Callable[[Any], Any]] = {
    "depths": _numbers,
    "seeds": _numbers,
    "steps": _number,
    "warmup_steps": _number,
    "probes": _probes,
    "probe_every": _number,
    "eval_every": _number,
    "eval_examples": _number,
}


def _setting(text: str, option: str = "--set", example: str = "recipe.momentum=0.8") -> tuple[str, Any, str]:
    """``recipe.momentum=0.8`` -> its field, its value as TOML (a bare word is a text), the option."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise UseError(f"{option}: expected KEY=VALUE such as {example}, not {text!r}")
    return field.strip(), _toml(value.strip()), f"{option} {field.strip()}"


def _arms(asked: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """``norm=batch,none`` -> the arms that repeat the study with each value; several: with each combination."""
    varied = [_setting(text, option="--vary", example="norm=batch,none") for text in asked]
    for field, values, option in varied:
        if repeated := [v for number, v in enumerate(_values(values)) if v in _values(values)[:number]]:
            raise UseError(f"{option}: {repeated[0]} stands twice among the values of {field}")
    choices = [[(field, value) for value in _values(values)] for field, values, _ in varied]
    arms = {", ".join(map(_said_short, chosen)): dict(chosen) for chosen in product(*choices)}
    if asked:
        yield "arms", arms, "--vary"


def _said_short(chosen: tuple[str, Any]) -> str:
    """``learning rate 0.05`` for ``recipe.learning_rate`` = 0.05."""
    field, value = chosen
    return f"{field.split('.')[-1]} {value}".replace("_", " ")


def _values(text: Any) -> list[Any]:
    return [_toml(part.strip()) for part in text.split(",")] if isinstance(text, str) else [text]


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how the runs are carried out: nothing here changes what a run is."""

    device: Annotated[str, _choice(DEVICES, "Where to train.", MACHINE)] = "auto"
    threads: Annotated[
        str | None, typer.Option(metavar="N", help="CPU threads of each run.", rich_help_panel=MACHINE)
    ] = None
    jobs: Annotated[
        str, typer.Option(metavar="auto|N", help="Runs trained at the same time.", rich_help_panel=MACHINE)
    ] = "auto"
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The same bits every time, slower.", rich_help_panel=MACHINE),
    ] = False
    capture: Annotated[
        bool | None,
        typer.Option(
            "--capture/--no-capture",
            help="Replay the step as a CUDA graph; without either, where there is CUDA.",
            rich_help_panel=MACHINE,
        ),
    ] = None
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the blocks: other results, by rounding.", rich_help_panel=MACHINE),
    ] = False
    sync_batch_norm: Annotated[
        bool,
        typer.Option(
            "--sync-batch-norm", help="Batch norm over all processes of torchrun (CUDA).", rich_help_panel=MACHINE
        ),
    ] = False
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the CIFAR-10 files.", rich_help_panel=MACHINE),
    ] = None
    launcher: Annotated[str, _choice(LAUNCHERS, "What carries the runs out.", MACHINE)] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT", help="Ray cluster; without it Ray is started here.", rich_help_panel=MACHINE
        ),
    ] = None
    gpus_per_run: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Share of a GPU for each run on Ray.", rich_help_panel=MACHINE)
    ] = None

    def checked(self) -> Options:
        """The options as the runner takes them. UseError names the one that is impossible."""
        return Options(
            device=one_of("--device", self.device, DEVICES),
            threads=positive("--threads", self.threads),
            jobs=None if self.jobs == "auto" else positive("--jobs", self.jobs),
            deterministic=self.deterministic,
            capture=self.capture,
            compile=self.compile,
            sync_batch_norm=self.sync_batch_norm,
            data_dir=self.data_dir,
            launcher=one_of("--launcher", self.launcher, LAUNCHERS),
            **ray_options(self.launcher, self.address, self.gpus_per_run),
        )


def formats_of(asked: list[str] | None) -> list[str]:
    """The file formats asked for, each once; png and svg where none was. UseError naming an unknown one."""
    for format in asked or ():
        if format not in FORMATS:
            hint = suggestion(format, FORMATS)
            raise UseError(f"--format: expected {', '.join(FORMATS)}, not {format!r}{hint}")
    return list(dict.fromkeys(asked or DEFAULT_FORMATS))
