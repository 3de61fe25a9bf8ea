"""Study files, names and options -> a StudySpec, or one line with the error and its location."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from degradation.data.manifest import UNNAMED, listed, same
from degradation.errors import DamagedError, UnknownStudy, UserError
from degradation.spec import Folder, StudySpec, leaves, upgrade_study
from degradation.spec.validation import TOO_LONG, check_kind, endless, no_file, refusal, shown, suggestion
from degradation.spec.validation import Path as FieldPath
from degradation.store import STUDY, StudyFolder, Url, as_place, folder_at, store_at
from degradation.store.filenames import is_study_name

PACKAGE = Path(__file__).parent.parent
ROOT = "runs"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The study of a command and the name of its folder."""

    name: str
    study: StudySpec


# The images of a study


def with_images(
    study: StudySpec, folder: StudyFolder, path: Path | None, say: Callable[[str], None] = lambda line: None
) -> StudySpec:
    """The study with the content of its folder of images: the folder at ``path``, else the one it was started with.

    A study of another data set is returned unchanged. Raises UserError if the folder is not given, not laid out as
    expected, or holds other images than at the start of the study. ``say`` gets one line on files that are not used.
    """
    dataset = study.dataset
    if not isinstance(dataset, Folder):
        return study
    on_disk = stored(folder).dataset if folder.study() is not None else dataset
    begun = on_disk if isinstance(on_disk, Folder) and on_disk.listing else None
    if path is not None:
        content = listed(dataset, path, say)
        same(begun or content, content, path)
    elif begun is not None:
        content = dataset.holding(begun)
    else:
        raise UserError(UNNAMED)
    return StudySpec.model_validate(study.model_dump() | {"dataset": content.model_dump()})


# Existing studies


def shipped() -> dict[str, Path]:
    """Name -> file of every shipped study: in the package or, for the same name, in the checkout."""
    folders = [*(place / "studies" for place in _checkout()), PACKAGE / "studies"]
    files = {file.stem: file for folder in folders for file in folder.glob("*.toml")}
    return dict(sorted(files.items()))


def reported() -> dict[str, Path]:
    """Name -> report of every shipped study with a result; only a checkout has reports, not an installed package."""
    paths = {name: place / "reports" / name / "report.md" for place in _checkout() for name in shipped()}
    return {name: path for name, path in paths.items() if path.is_file()}


def _checkout() -> tuple[Path, ...]:
    """The checkout that contains the package; none if it was installed."""
    return (PACKAGE.parent,) if (PACKAGE.parent / "pyproject.toml").is_file() else ()


def on_disk(root: str | Path = ROOT) -> tuple[str, ...]:
    """The names of the studies that have a folder under ``root``, sorted."""
    store = store_at(root)
    return tuple(name for name in store.list() if store.exists(f"{name}/{STUDY}"))


def locate(name: str, root: str | Path = ROOT) -> StudyFolder:
    """The folder of a study on disk: a name under ``root``, or a path. UserError if there is none."""
    place = as_place(name)
    for folder in (place,) if isinstance(place, Url) else (as_place(root) / place, place):
        if store_at(folder).exists(STUDY):
            return folder_at(folder)
    raise UnknownStudy(name, f"no study {shown(name)} on disk: {_known_studies(root, name, with_shipped=False)}")


def stored(folder: StudyFolder) -> StudySpec:
    """The study on disk. DamagedError if its file is damaged."""
    fields = folder.study()
    if fields is None:
        raise UserError(f"{folder.path} holds no study: expected a folder that `degradation run` made")
    try:
        return upgrade_study(fields)
    except ValidationError as error:
        file = f"{folder.path / STUDY}"
        raise DamagedError(str(refusal(error, fields, lambda path, _: ": ".join((file, *path))))) from None


def _known_studies(root: str | Path, name: str, with_shipped: bool = True) -> str:
    """The studies that exist, with a suggestion for ``name``, for an error message."""
    names, shipped_names = on_disk(root), shipped() if with_shipped else ()
    existing = f"under {root} {'are ' + ', '.join(names) if names else 'is none yet'}"
    ships = f"the shipped ones are {', '.join(shipped_names)}; " if with_shipped else ""
    return f"{ships}{existing}{suggestion(name, [*names, *shipped_names])}"


# One file


def read(path: str | Path) -> StudySpec:
    """The study in a TOML file whose first line is its question.

    Raises UserError naming the file, and the line if known: not readable, not TOML, not a study.
    """
    text = _text(Path(path))
    try:
        fields = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number with more digits than Python reads
        why = "nested too deeply" if isinstance(error, RecursionError) else TOO_LONG
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else why
        raise UserError(f"{path} is not TOML: {why}") from None
    if (field := endless(fields)) is not None:
        raise UserError(f"{_at(path, text, field, '')}: {TOO_LONG}")
    errors = []
    if not re.match(r"question\s*=", text):
        errors.append(f'{path} line 1: expected the question of the study on the first line: question = "..."')
    elif isinstance(question := fields.get("question"), str) and not question.strip():
        errors.append(f"{path} line 1: question: expected the question of the study, not {shown(question)}")
    try:
        study = StudySpec.model_validate(fields)
    except ValidationError as error:
        errors.append(str(refusal(error, fields, lambda names, message: _at(path, text, names, message))))
    if errors:
        raise UserError("; ".join(errors))  # all at once: a user's first file often has several errors
    return study


def question(path: str | Path) -> str:
    """The question of a study file: its first line."""
    return read(path).question


def _text(path: Path) -> str:
    try:
        if kind := no_file(path.stat().st_mode):
            raise UserError(f"cannot read {path}: it is {kind}, not a study file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no file {path}: {_known_studies(ROOT, path.stem)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None


def _at(path: str | Path, text: str, names: FieldPath, message: str) -> str:
    """``studies/x.toml line 7: recipe.steps``; for a field that is not in the file, the line of its table."""
    lines = dict(_lines(text))
    numbers = [lines[names[:length]] for length in range(len(names), 0, -1) if names[:length] in lines]
    field = ".".join(names)
    what = f": {field}" if field and not message.startswith(field) else ""
    return f"{path} line {numbers[0]}{what}" if numbers else f"{path}{what}"


def _lines(text: str) -> Iterator[tuple[FieldPath, int]]:
    """The dotted name of each table and key, with its line."""
    table: FieldPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _names(header[1])
            yield table, number
        elif key := re.match(r"""\s*([\w\-."' ]+?)\s*=""", line):
            yield (*table, *_names(key[1])), number


def _names(dotted: str) -> FieldPath:
    return tuple(name.strip(" \"'") for name in dotted.split("."))


# A file, a name or nothing, with options that override it


def resolve(
    target: str | None,
    options: Mapping[str, Any] | None = None,
    *,
    option_by_field: Mapping[str, str] | None = None,
    root: str | Path = ROOT,
    name: str | None = None,
) -> Resolved:
    """The study of a target and options.

    ``target``: a path ending in ``.toml``, the name of a shipped study or one under ``root``, or None
    (the defaults of StudySpec; the study is then named after its data). ``options``: dotted field name ->
    value, overriding the target's; ``option_by_field``: the same names -> the option to name. Raises UserError.
    """
    options = options or {}
    base = StudySpec() if target is None else _base(target, root)
    varied = (option_by_field or {}).get("arms") == "--vary"
    if base.arms and varied and target not in on_disk(root):  # a study on disk may get more arms
        raise UserError(
            f"--vary: {target} has the arms {', '.join(base.arms)} of its own, which it would replace: write all arms "
            "into a study file, or vary a study without arms"
        )
    study = override(base, options, option_by_field or {field: field for field in options})
    if name is not None:
        check_name(name, "--name")
    return Resolved(name=name or (Path(target).stem if target else study.dataset.name), study=study)


LONGEST = 255
"""Greatest length of a folder's name in bytes, on most file systems."""


def check_name(name: object, option: str) -> None:
    """UserError if the name is not valid for a new study; ``option`` is the option that gives it."""
    check_kind(option, name, str, "a text")
    text = str(name)
    if not is_study_name(text):
        raise UserError(
            f"{option}: a study's name has letters, digits, '-', '_' and '.' only, the first neither '-' nor '.', "
            f"not {shown(name)}"
        )
    if (length := len(text.encode())) > LONGEST:
        raise UserError(f"{option}: expected a name of at most {LONGEST} bytes, not of {length:,}: {shown(name)}")


def _base(target: str, root: str | Path) -> StudySpec:
    if target.endswith(".toml"):
        return read(target)
    if target in shipped():
        return read(shipped()[target])
    if target in on_disk(root):
        return stored(StudyFolder(root, target))
    raise UnknownStudy(target, f"no study {shown(target)}: {_known_studies(root, target)}")


def override(study: StudySpec, options: Mapping[str, Any], option_by_field: Mapping[str, str]) -> StudySpec:
    """The study with fields replaced, checked again. UserError names the option from ``option_by_field``."""
    fields = study.model_dump()
    if options.get("dataset.name", study.dataset.name) != study.dataset.name:
        fields["dataset"] = {}  # the fields of one data set do not apply to another
    for field, value in options.items():
        _put(fields, field, value, option_by_field)
    arms = options.get("arms")
    _refuse_unknown_arm([*study.arms, *(arms if isinstance(arms, Mapping) else ())], option_by_field)
    try:
        changed = StudySpec.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, fields, lambda names, message: _blame(names, message, option_by_field)) from None
    _refuse_overruled_option(changed, option_by_field)
    return changed


def _refuse_unknown_arm(known: Sequence[str], option_by_field: Mapping[str, str]) -> None:
    """UserError if an option changes a field of an unknown arm: it would create and train that arm."""
    for field, option in option_by_field.items():
        table, _, below = field.partition(".")
        if table == "arms" and "." in below and not below.startswith(tuple(f"{name}." for name in known)):
            name = below.split(".")[0]
            arms = f"the arms are {', '.join(known)}" if known else "the study has none"
            raise UserError(f"{option}: there is no arm {name}; {arms}{suggestion(name, known)}")


def _refuse_overruled_option(study: StudySpec, option_by_field: Mapping[str, str]) -> None:
    """UserError if an option sets a field that an arm sets itself: the option would have no effect there."""
    for arm, changes in study.arms.items():
        for field, value in leaves(changes).items():
            own = f"arms.{arm}.{field}"
            if field in option_by_field and own not in option_by_field:
                raise UserError(
                    f"{option_by_field[field]}: arm {arm} has {field} = {value} itself; --set {own}=... changes it"
                )


def _put(fields: dict[str, Any], field: str, value: Any, option_by_field: Mapping[str, str]) -> None:
    *above, last = field.split(".")
    for name in above:
        fields = fields.setdefault(name, {})
        if not isinstance(fields, dict):
            raise UserError(f"{option_by_field[field]}: {name} is one value and has no field {last}")
    fields[last] = value


def _blame(names: FieldPath, message: str, option_by_field: Mapping[str, str]) -> str:
    """The option of a refused field; for a rule between fields, the options that its message mentions."""
    for length in range(len(names), 0, -1):
        if (above := ".".join(names[:length])) in option_by_field:
            own = above == "arms" and length < len(names)
            arm, inner = (f"arm {names[length]}", names[length + 1 :]) if own else ("", names[length:])
            return ": ".join(filter(None, (option_by_field[above], arm, ".".join(inner))))
    field = ".".join(names)
    within = {inner: option for inner, option in option_by_field.items() if inner.startswith(field)}
    mentioned = [option for inner, option in within.items() if inner.split(".")[-1] in message]
    return ", ".join(mentioned or within.values()) or field
