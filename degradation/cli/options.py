"""The options of the commands, declared once: tokens -> dotted study fields and machine options."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from degradation import spec
from degradation.cli.overrides import arms, setting
from degradation.cli.parser import FORMATS, NO_PROBE, SHORTCUTS, is_integer
from degradation.cli.validators import one_of, positive, ray_options
from degradation.errors import UserError
from degradation.runtime.environment import COUNTS, DEVICES, LAUNCHERS, Options, greatest_count
from degradation.spec import NETWORKS, PROBE_NAMES, Family
from degradation.study import library

DATASETS = tuple(name for name in spec.DATASETS if name != "folder")
FOLDER, PLACE = "folder:", "PATH"  # the prefix of a path to a folder of images, and the path
PRECISIONS = ("auto", "fp32", "bf16")

DEFAULT_FORMATS = ["png", "svg"]

# Options declared once, as dataclasses


def value(metavar: str, help: str, panel: str | None = None, **more: Any) -> Any:
    """An option that takes a value; ``panel`` is its heading in the help."""
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel, **more)


def flag(names: str, help: str, panel: str | None = None) -> Any:
    """An option without a value; ``panel`` is its heading in the help."""
    return typer.Option(names, help=help, rich_help_panel=panel)


def _choice(values: Iterable[str], help: str, panel: str, several: bool = False) -> Any:
    """An option with fixed values. The specification checks them, so that all error messages are alike."""
    words = list(values)
    metavar = "NAME ..." if several else "|".join(words)
    text = f"{help}: {', '.join(words)}." if several else help
    return value(metavar, text, panel, autocompletion=lambda: [word.removesuffix(PLACE) for word in words])


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
RootOption = Annotated[str, value("DIR|URL", "Folder of all studies: a path, s3://..., gs://...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; everything else goes to stderr.")]
SkipDamagedOption = Annotated[bool, typer.Option("--skip-damaged", help="Skip damaged runs and name them.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
FormatsOption = Annotated[list[str] | None, _choice(FORMATS, "File formats (default: png svg)", "Options", True)]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options that describe a study; None if not given."""

    name: Annotated[str | None, value("NAME", "Name of the study's folder.")] = None
    root: RootOption = library.ROOT
    depths: Annotated[list[str] | None, value("N ...", "Layers: 6n+2; imagenet: 18 34 50 101 152.", GRID)] = None
    networks: Annotated[list[str] | None, _choice(NETWORKS, "Networks", GRID, several=True)] = None
    shortcuts: Annotated[list[str] | None, _choice(SHORTCUTS, "Shortcut options", GRID, several=True)] = None
    seeds: Annotated[list[str] | None, value("N ...", "Random seeds; one full grid of runs for each.", GRID)] = None
    vary: Annotated[list[str] | None, value("KEY=A,B", "One arm for each value: norm=batch,none.", GRID)] = None
    family: Annotated[
        str | None, _choice(get_args(Family), "cifar: section 4.2 of the paper; imagenet: its Table 1.", GRID)
    ] = None
    dataset: Annotated[str | None, _choice((*DATASETS, FOLDER + PLACE), "Data set.", GRID)] = None
    steps: Annotated[str | None, value("N", "Training steps of each run (paper: 64000).", RECIPE)] = None
    budget: Annotated[str | None, value("TIME", "Choose the steps to fit: 90s, 30m, 1h30m.", RECIPE)] = None
    warmup_steps: Annotated[str | None, value("N|RULE", "Warm-up steps, or half, tenth, paper.", RECIPE)] = None
    set: Annotated[list[str] | None, value("KEY=VALUE", "Any field: recipe.momentum=0.8.", RECIPE)] = None
    precision: Annotated[str | None, _choice(PRECISIONS, "Arithmetic.", RECIPE)] = None
    probes: Annotated[
        list[str] | None, _choice((*PROBE_NAMES, NO_PROBE), "What to record inside", MEASURE, several=True)
    ] = None
    probe_every: Annotated[str | None, value("N", "Steps between probe rows.", MEASURE)] = None
    eval_every: Annotated[str | None, value("N", "Steps between evaluations.", MEASURE)] = None
    eval_examples: Annotated[
        str | None, value("N", "Images of each split to evaluate, also at the end (default: all).", MEASURE)
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
        for field, content, option in (*self._named(), *arms(self.vary or ()), *map(setting, self.set or ())):
            if field in option_by_field:
                raise UserError(f"{option}: {field} is given twice, here and by {option_by_field[field]}: remove one")
            values[field], option_by_field[field] = content, option
        return values, option_by_field

    def _named(self) -> Iterator[tuple[str, Any, str]]:
        """Field, value and option of every option of ``FIELDS`` that is given."""
        for name, field in FIELDS.items():
            if (text := getattr(self, name)) is not None:
                content = READERS[name](text) if name in READERS else text
                for each in (field, *ALSO.get(name, ())):
                    yield each, content, f"--{name.replace('_', '-')}"


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
"""Option -> other fields that it sets: on the command line, a smaller evaluation is chosen to save time."""


def _number(text: str) -> int | str:
    """The whole number in a text; any other text unchanged: the specification reports what it expected."""
    return int(text) if is_integer(text) else text


def _numbers(texts: list[str]) -> list[int | str]:
    return [_number(text) for text in texts]


def _dataset(text: str) -> str:
    """The name of the data set, without the path of a folder: a moved folder stays the same data set."""
    return "folder" if text.startswith(FOLDER) else text


def _probes(names: list[str]) -> list[str]:
    if NO_PROBE in names and len(names) > 1:
        raise UserError(f"--probes: '{NO_PROBE}' cannot be combined with {names[1 - names.index(NO_PROBE)]!r}")
    return [] if names == [NO_PROBE] else names


READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("depths", "seeds"), _numbers),
    **dict.fromkeys(("steps", "warmup_steps", "probe_every", "eval_every", "eval_examples"), _number),
    "dataset": _dataset,
    "probes": _probes,
}
"""Option -> how its text is read."""


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how the runs are executed; no option here is part of a run's specification."""

    device: Annotated[str, _choice(DEVICES, "Device to train on.", MACHINE)] = "auto"
    threads: Annotated[str | None, value("N", "CPU threads of each run.", MACHINE)] = None
    jobs: Annotated[str, value("auto|N", "Runs trained at the same time.", MACHINE)] = "auto"
    deterministic: Annotated[bool, flag("--deterministic", "Bit-identical results every time; slower.", MACHINE)] = (
        False
    )
    capture: Annotated[
        bool | None, flag("--capture/--no-capture", "Replay the step as a CUDA graph (default: on CUDA).", MACHINE)
    ] = None
    compile: Annotated[bool, flag("--compile", "Compile the blocks; results differ by rounding.", MACHINE)] = False
    sync_batch_norm: Annotated[
        bool, flag("--sync-batch-norm", "Synchronize batch norm over torchrun's processes (CUDA).", MACHINE)
    ] = False
    data_dir: Annotated[Path | None, value("DIR", "Folder of the CIFAR-10 files.", MACHINE)] = None
    workers: Annotated[str | None, value("N", "Image-decoding processes of each run.", MACHINE)] = None
    launcher: Annotated[str, _choice(LAUNCHERS, "What executes the runs.", MACHINE)] = "local"
    address: Annotated[
        str | None, value("auto|HOST:PORT", "Ray cluster (default: start Ray on this machine).", MACHINE)
    ] = None
    gpus_per_run: Annotated[str | None, value("SHARE", "Fraction of a GPU for each run on Ray.", MACHINE)] = None

    def checked(self, folder: Path | None = None) -> Options:
        """The options for the runner; ``folder`` holds the images. UserError names an impossible one."""
        if folder is not None and self.data_dir is not None:
            raise UserError(f"--data-dir {self.data_dir}: --dataset names a folder of images: remove one")
        launcher = one_of("--launcher", self.launcher, LAUNCHERS)
        device = one_of("--device", self.device, DEVICES)
        texts = {"threads": self.threads, "jobs": None if self.jobs == "auto" else self.jobs, "workers": self.workers}
        counts: dict[str, Any] = {
            name: positive(f"--{name}", text, least=COUNTS[name], most=greatest_count(name, launcher))
            for name, text in texts.items()
        }
        return Options(
            device=device,
            **counts,
            deterministic=self.deterministic,
            capture=self.capture,
            compile=self.compile,
            sync_batch_norm=self.sync_batch_norm,
            data_dir=folder or self.data_dir,
            launcher=launcher,
            **ray_options(self.launcher, self.address, self.gpus_per_run),
        )


def formats_of(given: list[str] | None) -> list[str]:
    """The given file formats, each once; png and svg by default. UserError names an unknown one."""
    return list(dict.fromkeys(one_of("--format", format, FORMATS) for format in given or DEFAULT_FORMATS))
