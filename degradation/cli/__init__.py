"""The command line: arguments -> a study is run, shown, plotted or deleted."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from degradation.cli.exit_codes import INTERRUPTED

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, ``app.main``; a Ctrl-C during the import also ends in one line."""
    try:
        from degradation.cli import app
    except KeyboardInterrupt:
        print("degradation: interrupted before anything was done", file=sys.stderr)
        sys.exit(INTERRUPTED)
    app.main(arguments)
