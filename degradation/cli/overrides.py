"""KEY=VALUE on the command line -> fields of a study, with the option that sets each."""

import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from degradation.errors import UserError
from degradation.spec.validation import TOO_LONG, endless


def setting(text: str, option: str = "--set", example: str = "recipe.momentum=0.8") -> tuple[str, Any, str]:
    """``recipe.momentum=0.8`` -> its field, its value as TOML (a bare word is a text), the option."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip() or not value.strip():
        raise UserError(f"{option}: expected KEY=VALUE such as {example}, not {text!r}")
    return field.strip(), _toml(value.strip()), f"{option} {field.strip()}"


def arms(texts: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """``norm=batch,none`` -> one arm for each value; for several texts, one for each combination."""
    choices = []
    for field, content, option in [setting(text, option="--vary", example="norm=batch,none") for text in texts]:
        values = _values(content)
        if repeated := [value for number, value in enumerate(values) if value in values[:number]]:
            raise UserError(f"{option}: {repeated[0]} is given twice for {field}")
        choices.append([(field, value) for value in values])
    if texts:
        yield "arms", {", ".join(map(_name, chosen)): dict(chosen) for chosen in product(*choices)}, "--vary"


def _name(choice: tuple[str, Any]) -> str:
    """``learning rate 0.05`` for ``recipe.learning_rate`` = 0.05."""
    field, value = choice
    return f"{field.split('.')[-1]} {value}".replace("_", " ")


def _values(text: Any) -> list[Any]:
    return [_toml(part.strip()) for part in text.split(",")] if isinstance(text, str) else [text]


def _toml(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except RecursionError:
        raise UserError(f"{text[:20]}...: nested too deeply") from None
    if endless(value) is not None:
        raise UserError(f"{text[:20]}...: {TOO_LONG}")
    return value
