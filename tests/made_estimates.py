"""Made-up estimates, as an analysis would find them, so that claims are judged without a study."""

from degradation.analysis.estimates import Estimate
from degradation.analysis.intervals import in_factors, of_values
from degradation.analysis.verdicts import UNITS
from degradation.spec import PAPER_STEPS

DEEP, SHALLOW = "56", "20"


def made(name: str, values: tuple[float, ...], *, steps: int = PAPER_STEPS, **context: str) -> Estimate:
    """An estimate with these values, one a seed (logarithms, base 10, of factors); deep networks by default."""
    unit = UNITS.get(name, "points")
    interval = of_values(values, "paired t")
    shown = in_factors(interval) if unit == "factor" else interval
    depths = {"deep": DEEP, "shallow": SHALLOW} if name in ("degradation-gap", "response-gap") else {}
    converged = "yes" if steps >= PAPER_STEPS else "no"
    fixed = {
        "depth": context.get("deep", DEEP),
        "arm": "",
        "kind": context.get("network", "residual"),
        "steps": str(steps),
    }
    compared = " minus the other" if name.endswith(("-gap", "-effect")) and unit != "factor" else ""
    return Estimate(
        name=name,
        label=f"{name} of {context.get('network', 'both')}{compared}",
        unit=unit,
        value=shown.value,
        low=shown.low,
        high=shown.high,
        n=len(values),
        seeds=tuple(range(len(values))),
        values=tuple(10.0**value for value in values) if unit == "factor" else tuple(values),
        method=shown.method,
        context=fixed | {"converged": converged} | depths | context,
    )
