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

UNASKED = tuple(f"dataset.{name}" for name in LISTED)
NAMED = {field: f"--{option.replace('_', '-')}" for option, field in FIELDS.items() if option not in ALSO}


def rerun(name: str, study: StudySpec, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments of ``degradation run`` that mean exactly this study: the shortest, from a shipped study or none.

    After the study come the device and the threads of each run, as recorded in the provenance: identical bits
    depend on them. Each is omitted if runs differ in it. Raises UserError if no command means the study.
    """
    asked = study.as_asked()
    found = [line for target in (None, *library.shipped()) if (line := _over(target, asked)) is not None]
    if not found:
        raise UserError(f"{name}: no command line means this study")
    line = tuple(_placed(word, provenance) for word in min(found, key=len))
    named = () if line[:1] == (name,) else ("--name", name)
    return ("degradation", "run", *line, *named, *_machine(provenance))


def _over(target: str | None, study: StudySpec) -> tuple[str, ...] | None:
    """Target and options that mean the study; None if no options over this target do."""
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
    """Dotted fields in which the study differs; those of another data set against that set's defaults."""
    there, here = flatten(base), flatten(study)
    if base.dataset.name != study.dataset.name:
        fresh = type(study.dataset)()
        there = {name: value for name, value in there.items() if not name.startswith("dataset.")}
        there |= {f"dataset.{name}": value for name, value in flatten(fresh).items() if name != "name"}
    fields = {name: value for name, value in here.items() if name not in there or there[name] != value}
    if isinstance(study.dataset, Folder):  # always named, then read
        fields = {n: v for n, v in fields.items() if n not in UNASKED} | {"dataset.name": study.dataset.name}
    if base.arms == study.arms:
        return fields
    rest = {name: value for name, value in fields.items() if not name.startswith("arms.")}
    return rest | {"arms": {name: dict(leaves(arm)) for name, arm in study.arms.items()}}  # an arm may have no changes


def _placed(word: str, provenance: Mapping[str, Any]) -> str:
    """The argument; for a folder of images the path it had, if all runs had the same one."""
    place = provenance.get("folder")
    return f"{FOLDER}{place if isinstance(place, str) else 'PATH'}" if word == FOLDER else word


def _option(field: str, value: Any) -> Iterator[str]:
    if value == Folder().name and field == "dataset.name":
        yield from (NAMED[field], FOLDER)
    elif field not in NAMED:
        yield from ("--set", f"{field}={_toml(value)}")
    elif isinstance(value, list):
        yield from (NAMED[field], *(map(str, value) if value else [NO_PROBE]))
    else:
        yield from (NAMED[field], str(value))


def _toml(value: Any) -> str:
    """The value as TOML: strings and lists as in JSON except for one character, tables with equals signs."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _machine(provenance: Mapping[str, Any]) -> Iterator[str]:
    for name in ("device", "threads"):
        if isinstance(value := provenance.get(name), str):
            yield from (f"--{name}", value)
    if provenance.get("deterministic") == "True":
        yield "--deterministic"
