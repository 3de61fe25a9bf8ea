"""Fields of specifications: base class and types; nested fields <-> dotted names <-> canonical text."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A specification: immutable, keyword-only, validated when created; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    IMPLIED: ClassVar[Mapping[str, Any]] = {}
    """Fields added after run ids were in use -> the value that every earlier run had. The hash leaves them out at that
    value, so that the ids of earlier runs do not change."""


DEEPEST = 10_000


def shortened(number: int) -> str:
    """A number as text, or a phrase if it has more than 20 digits."""
    return str(number) if abs(number) < 10**20 else "one of more than 20 digits"


def valid_depth(depth: int) -> int:
    """``depth`` if it is 6n+2 with n >= 1 (section 4.2 of the paper); ValueError naming the nearest otherwise.

    At most 10,000 layers, as in the deepest convolutional network ever trained (Xiao et al. 2018).
    """
    if depth > DEEPEST:
        raise ValueError(f"expected a depth of at most {DEEPEST:,} layers, not {shortened(depth)}")
    if depth >= 8 and depth % 6 == 2:
        return depth
    below = (depth - 2) // 6 * 6 + 2
    nearest = [str(candidate) for candidate in (below, below + 6) if candidate >= 8] or ["8"]
    raise ValueError(f"depth {depth} is not of the CIFAR family 6n+2; the nearest valid {plural(nearest, 'depth')}")


def plural(items: list[str], noun: str) -> str:
    """``depths are 20 and 26`` or ``depth is 8``."""
    return f"{noun}s are {' and '.join(items)}" if len(items) > 1 else f"{noun} is {items[0]}"


T = TypeVar("T")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values, if there is at least one and none occurs twice; ValueError otherwise."""
    if not values:
        raise ValueError("at least one value is needed")
    repeated = [str(value) for value in dict.fromkeys(values) if values.count(value) > 1]
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is given twice")
    return values


CONTROL = ("Cc", "Cs")  # Unicode categories: control characters, surrogates
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # characters that reverse the text around them


def printable(text: str) -> str:
    """The text, if a terminal and a page show it unchanged; ValueError naming the first other character."""
    for letter in text:
        if letter not in "\n\t" and (unicodedata.category(letter) in CONTROL or letter in TURNING):
            raise ValueError(f"U+{ord(letter):04X} is a control character: leave it out")
    return text


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Step = Annotated[int, Field(ge=0, le=10_000_000)]


def canonical(spec: BaseModel) -> str:
    """The spec as JSON with sorted keys and no spaces, without implied values: the same text for the same spec."""
    return json.dumps(_explicit(spec, spec.model_dump(mode="json")), sort_keys=True, separators=(",", ":"))


def _explicit(spec: BaseModel, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The dumped fields of a spec without those at the value that its class implies."""
    implied = spec.IMPLIED if isinstance(spec, Frozen) else {}
    explicit = {}
    for name, value in fields.items():
        if name not in implied or value != implied[name]:
            part = getattr(spec, name)
            explicit[name] = _explicit(part, value) if isinstance(part, BaseModel) else value
    return explicit


def digest(spec: BaseModel) -> str:
    """Eight hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()[:8]


def flatten(spec: BaseModel) -> dict[str, Any]:
    """Every field with its dotted name: ``recipe.learning_rate`` -> 0.1."""
    return leaves(spec.model_dump(mode="json"))


def leaves(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested fields -> dotted names: ``{"recipe": {"steps": 7}}`` -> ``{"recipe.steps": 7}``."""
    return dict(_leaves(fields, ""))


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}.{key}" if name else key)]


def nest(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names -> nested fields, the inverse of ``leaves``; already nested fields stay nested."""
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        first, dot, below = name.partition(".")
        inner = {below: value} if dot else value
        nested = merge(nested, {first: nest(inner) if isinstance(inner, Mapping) else inner})
    return nested


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``under``, replaced by those of ``over``, table by table."""
    merged = dict(under)
    for name, value in over.items():
        tables = isinstance(value, Mapping) and isinstance(under.get(name), Mapping)
        merged[name] = merge(under[name], value) if tables else value
    return merged
