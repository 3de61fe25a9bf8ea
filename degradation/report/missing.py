"""A study and what is done of it -> sentences that say what its report cannot show."""

from collections.abc import Iterator, Mapping

from degradation.results import Results
from degradation.standing import ENDED, standings

NAMED = 8  # runs named in one sentence; the others are counted


def missing(results: Results, figures: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each absence: runs not done, no pair, one kind, one depth; ``figures``: name -> what it lacks."""
    lacking = [f"{why[0].upper()}{why[1:]}." for why in figures.values()]
    return (*_runs(results), *_networks(results), *lacking)


def _runs(results: Results) -> Iterator[str]:
    found = standings(results.folder, results.study)
    lacking = [f"{standing.run_id} ({standing.state})" for standing in found if standing.state not in ENDED]
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        yield (
            f"{len(lacking)} of {len(found)} runs are not done, and nothing here counts them: "
            f"{', '.join(lacking[:NAMED])}{more}. The command below continues them."
        )


def _networks(results: Results) -> Iterator[str]:
    specs = results.specs.values()
    kinds, depths = {spec.network for spec in specs}, {spec.depth for spec in specs}
    if len(kinds) == 1:
        [kind] = kinds
        yield (f"Only {kind} networks are done: there is no matched pair, and what shortcuts change is not measured.")
    if len(depths) == 1:
        [depth] = depths
        yield f"Only depth {depth} is done: nothing is measured of what depth changes."
