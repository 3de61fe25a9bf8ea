"""The command line: what is typed -> one study, carried out, shown, drawn or cleared."""

from degradation.commands.app import main

__all__ = ["main"]
