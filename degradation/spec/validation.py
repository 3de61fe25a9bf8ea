"""A specification with errors -> one line with the place, the expected and the actual value."""

import difflib
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from degradation.errors import UserError
from degradation.spec import DATASETS, VARYING, BlockSpec, Measure, StudyRecipe, StudySpec, nest_arms

Path = tuple[str, ...]
Place = Callable[[Path, str], str]
"""The names down to a field, and the message about it -> the text before the message."""

MODELS: dict[str, type[BaseModel]] = {"": StudySpec, "recipe": StudyRecipe, "block": BlockSpec, "measure": Measure}

# pydantic's name of a bound -> its words, and the key of the bound in the error's context.
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}
# The first word of pydantic's error type -> the expected value.
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "a text in quotes",
    "tuple": "a list in brackets",
    "model": "a table of fields",
    "dict": "a table of fields",
}


def refusal(error: ValidationError, given: Mapping[str, Any], place: Place) -> UserError:
    """The errors as one line, a sentence for each field; ``given`` are the nested fields with the errors."""
    given = {**given, "arms": nest_arms(given.get("arms", {}))}
    # A field that may have several types has one error for each of them: they make one sentence.
    fields: dict[Path, list[Any]] = {}
    for entry in error.errors(include_url=False):
        fields.setdefault(_path(entry["loc"], given), []).append(entry)
    lines = []
    for path, alike in fields.items():
        message = _unknown(path, given) if alike[0]["type"] == "extra_forbidden" else _refused(alike)
        lines.append(f"{place(path, message)}: {message}")
    return UserError("; ".join(lines))


def suggestion(name: str, valid: Iterable[str], likeness: float = 0.6) -> str:
    """``; did you mean quickstart?``, or nothing if difflib finds no valid name with this likeness."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=likeness)
    return f"; did you mean {near[0]}?" if near else ""


def _path(loc: tuple[int | str, ...], given: Mapping[str, Any]) -> Path:
    """The names of fields in ``loc``, without pydantic's positions and names of union members."""
    names: list[str] = []
    value: Any = given
    for part in loc:
        if isinstance(value, Mapping) and part in value:
            names.append(str(part))
            value = value[str(part)]
    return tuple(names)


def _unknown(path: Path, given: Mapping[str, Any]) -> str:
    *above, name = path
    in_arm = above[:1] == ["arms"]
    owner = ".".join(above[2:] if in_arm else above)
    model = DATASETS[given["dataset"]["name"]] if owner == "dataset" else MODELS[owner]
    fields = list(VARYING) if in_arm and not owner else list(model.model_fields)
    owner = owner or ("an arm" if in_arm else "a study")
    return f"{'.'.join(path)} is not a field of {owner}; its fields are {', '.join(fields)}{suggestion(name, fields)}"


def _refused(alike: list[Any]) -> str:
    first = alike[0]
    if first["type"] == "value_error":  # raised by our own validators, with a complete message
        return str(first["ctx"]["error"])
    if first["type"].startswith("union_tag"):
        return _unknown_dataset(first)
    expected = " or ".join(dict.fromkeys(_expected(entry) for entry in alike))
    hint = suggestion(first["input"], _choices(alike)) if isinstance(first["input"], str) else ""
    return f"expected {expected}, not {shown(first['input'])}{hint}"


def _unknown_dataset(entry: Any) -> str:
    if "name" not in entry["input"]:
        names = " or ".join(f'name = "{name}"' for name in DATASETS)
        return f"its key name is missing, which says what data it is: expected {names}"
    name = entry["input"]["name"]
    hint = suggestion(str(name), DATASETS)
    return f"expected {' or '.join(DATASETS)} as the dataset's name, not {shown(name)}{hint}"


def _expected(entry: Any) -> str:
    kind = entry["type"]
    if kind in BOUNDS:
        words, key = BOUNDS[kind]
        return f"a number {words} {_number(entry['ctx'][key])}"
    if kind == "literal_error":
        return str(entry["ctx"]["expected"]).replace("'", "")
    return KINDS.get(kind.split("_")[0], str(entry["msg"]).lower())


def _choices(alike: list[Any]) -> list[str]:
    return [word for e in alike if e["type"] == "literal_error" for word in re.findall("'(.*?)'", e["ctx"]["expected"])]


def shown(value: Any) -> str:
    """A value as in a TOML file, shortened if it is long: booleans in lower case, texts in quotes."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def check_kind(option: str, value: object, kind: type | tuple[type, ...], words: str) -> None:
    """UserError if a value from Python code is not of this kind; ``words`` describe the kind."""
    if not isinstance(value, kind):
        raise UserError(f"{option}: expected {words}, not {shown(value)}")


def _number(value: float) -> str:
    """All digits of a whole number, with commas: 4,294,967,296."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


BITS = 14_000  # 4,214 decimal digits: from 4,300 on, Python refuses to print a number
TOO_LONG = "a whole number of too many digits"


def endless(fields: Any) -> Path | None:
    """The path of a whole number too long to print, such as one of hexadecimal digits; None without one."""
    waiting: list[tuple[Path, Any]] = [((), fields)]  # dotted keys can nest deeper than the recursion limit
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, int) and value.bit_length() > BITS:
            return path
        if isinstance(value, Mapping):
            waiting += [((*path, str(name)), item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(path, item) for item in value]
    return None


NO_FILES = {
    "a directory": stat.S_ISDIR,
    "a pipe": stat.S_ISFIFO,
    "a character device": stat.S_ISCHR,
    "a block device": stat.S_ISBLK,
    "a socket": stat.S_ISSOCK,
}
"""What a path may be other than a file. It is not opened: reading may never start, or never end."""


def no_file(mode: int) -> str:
    """The kind of a path with this mode (``st_mode``), if it is no file; empty for a file."""
    return next((kind for kind, is_one in NO_FILES.items() if is_one(mode)), "")
