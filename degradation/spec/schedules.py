"""When to measure: a number of steps -> the steps with a row."""

# Log-spaced rows are at these mantissas of each decade: eight per decade, rounded, so that runs of different
# length share their early rows and can be compared step by step.
MANTISSAS = (1.0, 1.33, 1.78, 2.37, 3.16, 4.22, 5.62, 7.5)
LOG_SPACED_UNTIL = 1000
LINEAR_ROWS = 64
EVALUATIONS = 16


def at(points: tuple[int, ...], steps: int) -> tuple[int, ...]:
    """The given points within 0..steps, and always the first and the last step."""
    return tuple(sorted({0, steps} | {point for point in points if 0 <= point <= steps}))


def every(interval: int, steps: int) -> tuple[int, ...]:
    """Every ``interval`` steps, and the last."""
    return at(tuple(range(0, steps + 1, interval)), steps)


def log_spaced(until: int) -> tuple[int, ...]:
    """Eight steps a decade from 1 to ``until``, rounded to whole steps."""
    decades = [10**power for power in range(len(str(until)))]
    points = {0} | {round(mantissa * decade) for decade in decades for mantissa in MANTISSAS}
    return tuple(sorted(point for point in points if point <= until))


def default(steps: int) -> tuple[int, ...]:
    """The default steps: log-spaced to 1,000 steps, then every steps/64; always the first and the last."""
    interval = max(1, steps // LINEAR_ROWS)
    linear = tuple(point for point in range(0, steps + 1, interval) if point > LOG_SPACED_UNTIL)
    return at(log_spaced(min(steps, LOG_SPACED_UNTIL)) + linear, steps)


def evaluations(interval: int | None, steps: int, epoch_steps: float) -> tuple[int, ...]:
    """Steps of the clean evaluations: every ``interval`` and the last, never before the first update.

    Without an interval: every steps/16, but no more often than every two epochs, since an evaluation of the whole
    training set costs about as much as an epoch. Initial running statistics are meaningless, so step 0 is left out.
    """
    return every(interval or max(1, steps // EVALUATIONS, round(2 * epoch_steps)), steps)[1:]
