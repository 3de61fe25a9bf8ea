"""Errors that end in one line: what was expected, what was given, what to do."""

import warnings


def __getattr__(name: str) -> type[Exception]:
    """Return a class under its name of version 0.1, with a DeprecationWarning."""
    if name == "UseError":
        warnings.warn("UseError is now called UserError", DeprecationWarning, stacklevel=2)
        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class UserError(Exception):
    """A usage error: the command prints this one line, without a traceback, and exits with status 2."""


class UnknownStudy(UserError):
    """No study has this name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class DamagedError(UserError):
    """A file of a run is not as it was written."""


class DamagedRun(DamagedError):
    """One run of a study cannot be read; the others can."""


class LockLost(UserError):
    """This process has lost the lock of a folder: another process has taken over, and nothing is written."""


class ProcessGroupLost(Exception):
    """The processes that train one network cannot continue: the command of each ends with status 1.

    ``own``: whether this process reports it; rank 0 does, and the process that failed.
    """

    def __init__(self, message: str, *, own: bool) -> None:
        super().__init__(message)
        self.own = own


class Interrupted(Exception):
    """A signal asked to stop; all work so far is in a checkpoint.

    ``status`` is the exit status of the command: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, status: int = 130) -> None:
        super().__init__(f"interrupted (status {status})")
        self.status = status
