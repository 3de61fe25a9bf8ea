"""The command line: what is typed -> one study, carried out, shown, drawn or cleared."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from degradation.cli.exit_codes import INTERRUPTED

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command, ``app.main``; a Ctrl-C while that is imported is a line, too."""
    try:
        from degradation.cli import app
    except KeyboardInterrupt:
        print("degradation: stopped before anything was done", file=sys.stderr)
        sys.exit(INTERRUPTED)
    app.main(arguments)
