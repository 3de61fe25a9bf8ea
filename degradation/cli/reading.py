"""A study on disk -> its frames, for the commands that read them."""

from degradation.cli.console import say_error
from degradation.store import StudyFolder
from degradation.study.results import Results


def results_of(folder: StudyFolder, skip_damaged: bool) -> Results:
    """The frames of a study; each damaged run that is skipped is named in a line on stderr."""
    results = Results(folder, skip_damaged=skip_damaged)
    for name, why in results.skipped.items():
        say_error(f"{name} is skipped: {why}")
    return results
