"""Numbers -> readable text: errors, sizes, times, counts and ranges."""

from collections.abc import Iterable

from degradation.spec import RunSpec


def percent(fraction: float | None) -> str:
    """``0.12345`` -> ``12.35%``."""
    return "" if fraction is None else f"{100 * fraction:.2f}%"


def size(count: int) -> str:
    """``1536`` -> ``1.5 kB``, in powers of 1000."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """``5400`` -> ``1 h 30 min``; seconds below two minutes, days above two days."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def ranges(numbers: Iterable[int]) -> str:
    """``0 1 2 5`` -> ``0-2, 5``."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{group[0]}-{group[-1]}" if len(group) > 2 else ", ".join(map(str, group)) for group in groups)


def short(run: RunSpec) -> str:
    """A run's id without its hash: ``residual-A-56-s0``."""
    return run.run_id.rsplit("-", 1)[0]


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``2 classes``."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
