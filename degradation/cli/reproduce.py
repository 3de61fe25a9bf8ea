"""A study on disk -> the command that runs it again from the start."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from degradation.cli.options import ALSO, FIELDS, FOLDER
from degradation.cli.parser import NO_PROBE
from degradation.errors import UserError
from degradation.spec import LISTED, Folder, StudySpec, flatten
from degradation.spec.fields import leaves
from degradation.study import library

READ_FROM_FOLDER = tuple(f"dataset.{name}" for name in LISTED)
OPTIONS = {field: f"--{option.replace('_', '-')}" for option, field in FIELDS.items() if option not in ALSO}


def rerun(name: str, study: StudySpec, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """The shortest ``degradation run`` command that means exactly this study, with or without a shipped study.

    After the study come the device and the threads of each run, as recorded in the provenance: identical bits
    depend on them. Each is omitted if runs differ in it. Raises UserError if no command means the study.
    """
    study = study.as_asked()
    lines = [line for target in (None, *library.shipped()) if (line := _line(target, study)) is not None]
    if not lines:
        raise UserError(f"{name}: no command line means this study")
    line = tuple(_with_path(word, provenance) for word in min(lines, key=len))
    name_option = () if line[:1] == (name,) else ("--name", name)
    return ("degradation", "run", *line, *name_option, *_machine_options(provenance))


def _line(target: str | None, study: StudySpec) -> tuple[str, ...] | None:
    """The target and the options that mean the study; None if no options of this target do."""
    base = StudySpec() if target is None else library.read(library.shipped()[target])
    changed = _changed(base.as_asked(), study)
    if target is None and not changed:
        changed = {"depths": list(study.depths)}  # `run` without a study is refused
    if any(value is None for value in changed.values()):
        return None  # an option cannot unset a field of the target
    try:
        meant = library.override(base, changed, {field: field for field in changed})
    except UserError:  # an arm of the target overrides an option
        return None
    if isinstance(meant.dataset, Folder) and isinstance(study.dataset, Folder):
        meant = meant.model_copy(update={"dataset": meant.dataset.holding(study.dataset)})
    if meant.begun() != study.begun():
        return None
    options = [word for field, value in changed.items() for word in _option(field, value)]
    return (*([target] if target else []), *options)


def _changed(base: StudySpec, study: StudySpec) -> dict[str, Any]:
    """Dotted fields in which the study differs; those of another data set are compared with its defaults."""
    before, after = flatten(base), flatten(study)
    if base.dataset.name != study.dataset.name:
        defaults = flatten(type(study.dataset)())
        before = {name: value for name, value in before.items() if not name.startswith("dataset.")}
        before |= {f"dataset.{name}": value for name, value in defaults.items() if name != "name"}
    fields = {name: value for name, value in after.items() if name not in before or before[name] != value}
    if isinstance(study.dataset, Folder):  # its name is always an option; the rest is read from the folder
        fields = {n: v for n, v in fields.items() if n not in READ_FROM_FOLDER} | {"dataset.name": study.dataset.name}
    if base.arms == study.arms:
        return fields
    fields = {name: value for name, value in fields.items() if not name.startswith("arms.")}
    return fields | {"arms": {name: dict(leaves(arm)) for name, arm in study.arms.items()}}  # an arm may be empty


def _with_path(word: str, provenance: Mapping[str, Any]) -> str:
    """The argument; a folder of images gets the path that it had, if that was the same for all runs."""
    path = provenance.get("folder")
    return f"{FOLDER}{path if isinstance(path, str) else 'PATH'}" if word == FOLDER else word


def _option(field: str, value: Any) -> Iterator[str]:
    if value == Folder().name and field == "dataset.name":
        yield from (OPTIONS[field], FOLDER)
    elif field not in OPTIONS:
        yield from ("--set", f"{field}={_toml(value)}")
    elif isinstance(value, list):
        yield from (OPTIONS[field], *(map(str, value) if value else [NO_PROBE]))
    else:
        yield from (OPTIONS[field], str(value))


def _toml(value: Any) -> str:
    """The value as TOML: texts and lists as in JSON except for one character, tables with equals signs."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _machine_options(provenance: Mapping[str, Any]) -> Iterator[str]:
    for name in ("device", "threads"):
        if isinstance(value := provenance.get(name), str):
            yield from (f"--{name}", value)
    if provenance.get("deterministic") == "True":
        yield "--deterministic"
