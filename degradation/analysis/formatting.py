"""Numbers -> text: signs, digits and brackets by unit; values of fields -> text."""

from collections.abc import Iterable
from typing import Any

SIGNED = " minus "  # a label with this names a difference, whose sign is always shown
OVER = " over "  # of a factor


def number(value: float, unit: str, *, signed: bool = False, digits: int = 1) -> str:
    """One number: points and percent with ``digits``, factors to two or three significant digits, whole steps."""
    sign = "+" if signed else ""
    if unit == "steps":
        return f"{value:{sign},.0f}"
    if unit == "factor":
        return _factor(value)
    if unit in ("std", "correlation", "exponent"):
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.{digits}f}"


def _factor(value: float) -> str:
    if value >= 1e5:
        return f"{value:.1e}"
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}" if value >= 0.1 else f"{value:.2g}"


def with_bounds(value: float, low: float, high: float, unit: str, signed: bool) -> list[str]:
    """Value, low and high with the same decimals: one, or two if the interval is narrower than a point."""
    digits = 1 if high - low >= 1 else 2
    return [number(each, unit, signed=signed, digits=digits) for each in (value, low, high)]


def measured(value: float, low: float | None, high: float | None, unit: str, signed: bool) -> str:
    """``+14.2 points [+11.9, +16.5]``; without brackets if there is no interval."""
    name = f" {unit}" if unit in ("points", "steps", "std") else {"percent": " %"}.get(unit, "")
    front = "factor " if unit == "factor" else ""
    if low is None or high is None:
        return f"{front}{number(value, unit, signed=signed, digits=2 if abs(value) < 1 else 1)}{name}"
    middle, least, most = with_bounds(value, low, high, unit, signed)
    return f"{front}{middle}{name} [{least}, {most}]"


def with_arm(label: str, arm: str) -> str:
    """``plain 44, adam``; the label alone in a study without arms."""
    return f"{label}, {arm}" if arm else label


def thousands(numbers: Iterable[int]) -> str:
    """``200 and 64,000``."""
    return " and ".join(f"{each:,}" for each in numbers)


def seeds(count: int) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count} seed{'s' * (count != 1)}"


def field_value(value: Any) -> str:
    """A field's value: a list as its items, None as ``not set``."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
