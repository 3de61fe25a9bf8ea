"""The text of an option -> its value, or one error line: what was expected and what was given."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from degradation.cli.parser import is_integer
from degradation.errors import UserError
from degradation.runtime.environment import MOST_COUNT
from degradation.spec.validation import shown, suggestion

LONGEST = 366 * 24 * 3600
"""Seconds: upper bound of a budget."""
Word = TypeVar("Word", bound=str)


def one_of(option: str, value: str, words: Sequence[Word]) -> Word:
    """The word of ``words`` that equals the value; UserError if there is none."""
    if value not in words:
        raise UserError(f"{option}: expected {', '.join(words)}, not {value!r}{suggestion(value, words)}")
    return words[words.index(value)]


def share(option: str, value: str | None) -> float | None:
    """A share above 0 and up to 1, rounded to four digits as Ray does."""
    if value is None:
        return None
    try:
        share = round(float(value), 4)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"{option}: expected a share of a GPU above 0 and up to 1, such as 0.25, not {value!r}")
    return share


def positive(option: str, value: str | None, *, least: int = 1, most: tuple[int, str] = (MOST_COUNT, "")) -> int | None:
    """The whole number of an option; None if it was not given.

    UserError if it is below ``least`` or above ``most``; ``most`` includes its reason.
    """
    greatest, why = most
    if value is None:
        return None
    if is_integer(value) and least <= int(value) <= greatest:
        return int(value)
    also = "auto or " if option == "--jobs" else ""
    above = is_integer(value) and int(value) > greatest
    bound = f"at most {greatest:,}{f' ({why})' if why else ''}" if above else f"at least {least}"
    raise UserError(f"{option}: expected {also}a whole number of {bound}, not {shown(value)}")


def seconds(budget: str) -> float:
    """``1h30m`` -> 5400.0. UserError if it is not a time above zero."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", budget.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total <= LONGEST:
        raise UserError(
            f"--budget: expected a time such as 90s, 30m or 1h30m, at most {LONGEST // 3600:,}h, not {shown(budget)}"
        )
    return float(total)


def ray_options(launcher: str, address: str | None, gpus_per_run: str | None) -> dict[str, Any]:
    """Ray's address and the share of a GPU for each run. UserError if one is given without Ray, or is invalid."""
    for option, value in {"--address": address, "--gpus-per-run": gpus_per_run}.items():
        if value is not None and launcher != "ray":
            raise UserError(f"{option} belongs to --launcher ray, and the launcher is {launcher}: give both")
    if address is not None and not re.fullmatch(r"auto|[^/\s]+:\d+", address):
        raise UserError(
            f"--address: expected auto or HOST:PORT, not {address!r}: give the command on a machine of the cluster, "
            "as `ray job submit` does"
        )
    return {"address": address, "gpus_per_run": share("--gpus-per-run", gpus_per_run)}
