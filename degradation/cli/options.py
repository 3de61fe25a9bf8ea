"""The options of the commands, declared once: tokens -> dotted study fields and machine options."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from degradation import spec
from degradation.cli.overrides import arms, setting
from degradation.cli.parser import FORMATS, NO_PROBE, SHORTCUTS, is_integer
from degradation.cli.validators import MOST, one_of, positive, ray_options
from degradation.errors import UserError
from degradation.runtime.environment import DEVICES, LAUNCHERS, Options, most
from degradation.spec import NETWORKS, PROBE_NAMES, Family
from degradation.spec.validation import suggestion
from degradation.study import library

DATASETS = tuple(name for name in spec.DATASETS if name != "folder")
FOLDER, PLACE = "folder:", "PATH"  # the prefix of a path to a folder of images, and the path
PRECISIONS = ("auto", "fp32", "bf16")

DEFAULT_FORMATS = ["png", "svg"]

# Options declared once, as dataclasses


def _choice(values: Iterable[str], help: str, panel: str, several: bool = False) -> Any:
    """An option of words. The specification checks them, so that all error messages are alike."""
    words = list(values)
    metavar = "NAME ..." if several else "|".join(words)
    return typer.Option(
        metavar=metavar,
        help=f"{help}: {', '.join(words)}." if several else help,
        rich_help_panel=panel,
        autocompletion=lambda: [word.removesuffix(PLACE) for word in words],
    )


GRID, RECIPE, MEASURE, MACHINE = "What is studied", "Recipe", "What is measured", "Machine"


def _names(incomplete: str) -> list[str]:
    return [name for name in (*library.on_disk(), *library.shipped()) if name.startswith(incomplete)]


Target = Annotated[
    str | None,
    typer.Argument(metavar="STUDY", help="A shipped study, a study on disk, or a .toml file.", autocompletion=_names),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A study under --root, or a path to one.", autocompletion=_names)
]
OtherName = Annotated[str, typer.Argument(metavar="OTHER", help="The study to compare with it.", autocompletion=_names)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="A study on disk; default: all.", autocompletion=_names)
]
RootOption = Annotated[str, typer.Option(metavar="DIR|URL", help="Folder of all studies: a path, s3://..., gs://...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; everything else goes to stderr.")]
SkipDamagedOption = Annotated[bool, typer.Option("--skip-damaged", help="Skip damaged runs and name them.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
FormatsOption = Annotated[list[str] | None, _choice(FORMATS, "File formats (default: png svg)", "Options", True)]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options that describe a study; None for those not given."""

    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the study's folder.")] = None
    root: RootOption = library.ROOT
    depths: Annotated[
        list[str] | None,
        typer.Option(metavar="N ...", help="Layers: 6n+2; imagenet: 18 34 50 101 152.", rich_help_panel=GRID),
    ] = None
    networks: Annotated[list[str] | None, _choice(NETWORKS, "Networks", GRID, several=True)] = None
    shortcuts: Annotated[list[str] | None, _choice(SHORTCUTS, "Shortcut options", GRID, several=True)] = None
    seeds: Annotated[
        list[str] | None,
        typer.Option(metavar="N ...", help="Random seeds; one full grid of runs for each.", rich_help_panel=GRID),
    ] = None
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="One arm for each value: norm=batch,none.", rich_help_panel=GRID),
    ] = None
    family: Annotated[
        str | None,
        _choice(get_args(Family), "cifar: section 4.2 of the paper; imagenet: its Table 1.", GRID),
    ] = None
    dataset: Annotated[str | None, _choice((*DATASETS, FOLDER + PLACE), "Data set.", GRID)] = None
    steps: Annotated[
        str | None,
        typer.Option(metavar="N", help="Training steps of each run (paper: 64000).", rich_help_panel=RECIPE),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Choose the steps to fit: 90s, 30m, 1h30m.", rich_help_panel=RECIPE),
    ] = None
    warmup_steps: Annotated[
        str | None,
        typer.Option(
            metavar="N|RULE",
            help="Warm-up steps, or half, tenth, paper.",
            rich_help_panel=RECIPE,
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any field: recipe.momentum=0.8.", rich_help_panel=RECIPE),
    ] = None
    precision: Annotated[str | None, _choice(PRECISIONS, "Arithmetic.", RECIPE)] = None
    probes: Annotated[
        list[str] | None, _choice((*PROBE_NAMES, NO_PROBE), "What to record inside", MEASURE, several=True)
    ] = None
    probe_every: Annotated[
        str | None, typer.Option(metavar="N", help="Steps between probe rows.", rich_help_panel=MEASURE)
    ] = None
    eval_every: Annotated[
        str | None, typer.Option(metavar="N", help="Steps between evaluations.", rich_help_panel=MEASURE)
    ] = None
    eval_examples: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Images of each split to evaluate, also at the end (default: all).",
            rich_help_panel=MEASURE,
        ),
    ] = None

    @property
    def folder(self) -> Path | None:
        """The path of the folder of images, if one is given."""
        if self.dataset is None or not self.dataset.startswith(FOLDER):
            return None
        if not (place := self.dataset.removeprefix(FOLDER)):
            raise UserError("--dataset folder:PATH: expected the folder that holds train and val after the colon")
        return Path(place)

    def fields(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Dotted field -> value, and -> the option that sets it. UserError if two options set the same field."""
        values: dict[str, Any] = {}
        option_by_field: dict[str, str] = {}
        for field, value, option in (*self._named(), *arms(self.vary or ()), *map(setting, self.set or ())):
            if field in option_by_field:
                raise UserError(f"{option}: {field} is given twice, here and by {option_by_field[field]}: remove one")
            values[field], option_by_field[field] = value, option
        return values, option_by_field

    def _named(self) -> Iterator[tuple[str, Any, str]]:
        for name, field in FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                read = READERS.get(name)
                for each in (field, *ALSO.get(name, ())):
                    yield each, read(value) if read else value, f"--{name.replace('_', '-')}"


FIELDS = {
    "depths": "depths",
    "networks": "networks",
    "shortcuts": "shortcuts",
    "seeds": "seeds",
    "family": "family",
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
ALSO = {"eval_examples": ("measure.final_examples",)}
"""Option -> further fields that it sets: a smaller evaluation is chosen on the command line to save time."""


def _number(text: str) -> int | str:
    """A whole number; any other text unchanged: the specification reports what it expected."""
    return int(text) if is_integer(text) else text


def _numbers(texts: list[str]) -> list[int | str]:
    return [_number(text) for text in texts]


def _dataset(text: str) -> str:
    """The name of the data set, without the place of a folder: a folder that moves stays the same data set."""
    return "folder" if text.startswith(FOLDER) else text


def _probes(names: list[str]) -> list[str]:
    if NO_PROBE in names and len(names) > 1:
        raise UserError(f"--probes: '{NO_PROBE}' cannot be combined with {names[1 - names.index(NO_PROBE)]!r}")
    return [] if names == [NO_PROBE] else names


READERS: dict[str, Callable[[Any], Any]] = {
    "depths": _numbers,
    "seeds": _numbers,
    "dataset": _dataset,
    "steps": _number,
    "warmup_steps": _number,
    "probes": _probes,
    "probe_every": _number,
    "eval_every": _number,
    "eval_examples": _number,
}


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how the runs are executed: nothing here changes what a run is."""

    device: Annotated[str, _choice(DEVICES, "Device to train on.", MACHINE)] = "auto"
    threads: Annotated[
        str | None, typer.Option(metavar="N", help="CPU threads of each run.", rich_help_panel=MACHINE)
    ] = None
    jobs: Annotated[
        str, typer.Option(metavar="auto|N", help="Runs trained at the same time.", rich_help_panel=MACHINE)
    ] = "auto"
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Bit-identical results every time; slower.", rich_help_panel=MACHINE),
    ] = False
    capture: Annotated[
        bool | None,
        typer.Option(
            "--capture/--no-capture",
            help="Replay the step as a CUDA graph (default: on CUDA).",
            rich_help_panel=MACHINE,
        ),
    ] = None
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the blocks; results differ by rounding.", rich_help_panel=MACHINE),
    ] = False
    sync_batch_norm: Annotated[
        bool,
        typer.Option(
            "--sync-batch-norm",
            help="Synchronize batch norm over torchrun's processes (CUDA).",
            rich_help_panel=MACHINE,
        ),
    ] = False
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the CIFAR-10 files.", rich_help_panel=MACHINE),
    ] = None
    workers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Image-decoding processes of each run.", rich_help_panel=MACHINE),
    ] = None
    launcher: Annotated[str, _choice(LAUNCHERS, "What executes the runs.", MACHINE)] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT", help="Ray cluster (default: start Ray on this machine).", rich_help_panel=MACHINE
        ),
    ] = None
    gpus_per_run: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Fraction of a GPU for each run on Ray.", rich_help_panel=MACHINE),
    ] = None

    def checked(self, folder: Path | None = None) -> Options:
        """The options as the runner takes them; ``folder`` holds the images. UserError names an impossible one."""
        if folder is not None and self.data_dir is not None:
            raise UserError(f"--data-dir {self.data_dir}: --dataset names a folder of images: remove one")
        launcher = one_of("--launcher", self.launcher, LAUNCHERS)
        bound = most(launcher)
        at_a_time = bound if launcher == "local" else (MOST, "")
        return Options(
            device=one_of("--device", self.device, DEVICES),
            threads=positive("--threads", self.threads, most=bound),
            jobs=None if self.jobs == "auto" else positive("--jobs", self.jobs, most=at_a_time),
            deterministic=self.deterministic,
            capture=self.capture,
            compile=self.compile,
            sync_batch_norm=self.sync_batch_norm,
            data_dir=folder or self.data_dir,
            workers=positive("--workers", self.workers, least=0, most=bound),
            launcher=launcher,
            **ray_options(self.launcher, self.address, self.gpus_per_run),
        )


def formats_of(asked: list[str] | None) -> list[str]:
    """The file formats given, each once; png and svg by default. UserError names an unknown one."""
    for format in asked or ():
        if format not in FORMATS:
            hint = suggestion(format, FORMATS)
            raise UserError(f"--format: expected {', '.join(FORMATS)}, not {format!r}{hint}")
    return list(dict.fromkeys(asked or DEFAULT_FORMATS))
