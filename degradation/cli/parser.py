"""Command-line tokens -> input of the parser: one value per option, one parameter per field."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from typer.core import TyperCommand

from degradation.errors import UserError
from degradation.spec import NETWORKS, PROBE_NAMES, Shortcut

SHORTCUTS = get_args(Shortcut)[1:]
FORMATS = ("png", "svg", "pdf")
NO_PROBE = "none"


def is_integer(token: str) -> bool:
    """Whether the token is a whole number; negative ones are included and refused when values are checked."""
    return re.fullmatch(r"[+-]?\d+", token) is not None


MULTI_VALUE: dict[str, Callable[[str], bool]] = {
    "--depths": is_integer,
    "--seeds": is_integer,
    "--networks": NETWORKS.__contains__,
    "--shortcuts": SHORTCUTS.__contains__,
    "--probes": (*PROBE_NAMES, NO_PROBE).__contains__,
    "--format": FORMATS.__contains__,
}
"""Option -> whether a token can be another value of it."""


def expand(tokens: Sequence[str]) -> list[str]:
    """``--depths 20 32 quickstart`` -> ``--depths=20 --depths=32 quickstart``.

    An option of ``MULTI_VALUE`` takes its first value as any option does, then every token that can be one of
    its values, and nothing else; after ``--`` nothing changes.
    """
    expanded: list[str] = []
    remaining = list(tokens)
    while remaining and remaining[0] != "--":
        token = remaining.pop(0)
        option, equals, first = token.partition("=")
        if option not in MULTI_VALUE or (not equals and (not remaining or remaining[0].startswith("--"))):
            expanded.append(token)
            continue
        values = [first if equals else remaining.pop(0)]
        while remaining and MULTI_VALUE[option](remaining[0]):
            values.append(remaining.pop(0))
        expanded += [f"{option}={value}" for value in values]
    return expanded + remaining


def preceding_option(tokens: Sequence[str], name: str) -> str:
    """The option whose values come directly before the token ``name``; empty if there is none.

    ``run --networks plain mymlp``: ``mymlp`` is read as the name of a study, and may have been meant as a network.
    """
    before = tokens[: tokens.index(name)] if name in tokens else []
    start = next((n for n in range(len(before), 0, -1) if before[n - 1].startswith("-")), 0)
    option, values = before[start - 1] if start else "", before[start:]
    return option if option in MULTI_VALUE and values and all(map(MULTI_VALUE[option], values)) else ""


class MultiValueCommand(TyperCommand):
    """A command whose multi-value options take several values after one name; empty values are refused."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        tokens = expand(args)
        if not ctx.resilient_parsing:  # it is set while the shell completes
            values, _, order = self.make_parser(ctx).parse_args(args=list(tokens))
            for parameter in order:
                _refuse_empty(parameter, values.get(parameter.name))
        return super().parse_args(ctx, tokens)


def _refuse_empty(parameter: Any, value: Any) -> None:
    """UserError for an empty text: it comes from an unset shell variable, not from a missing option."""
    texts = value if isinstance(value, list | tuple) else [value]
    for text in texts:
        if isinstance(text, str) and not text.strip():
            argument = re.sub(r"[\[\]. ]", "", parameter.metavar or parameter.name)
            option = parameter.opts[0] if parameter.param_type_name == "option" else argument
            raise UserError(f"{option}: expected a value, not {text!r}")


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """The command with each parameter that is a dataclass replaced by its fields, as keywords."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {p.name: p.annotation for p in signature.parameters.values() if is_dataclass(p.annotation)}
    flat = [q for p in signature.parameters.values() for q in (_parameters(p.annotation) if p.name in groups else [p])]

    @functools.wraps(command)
    def with_groups(**values: Any) -> int:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    with_groups.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {p.name: p.annotation for p in flat}
    return with_groups


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
