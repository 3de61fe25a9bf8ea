"""The instrument for studying the degradation problem (He et al. 2015, arXiv 1512.03385).

The public names are loaded when they are first used, so that reading a study never imports torch.
"""

from typing import TYPE_CHECKING, Any

from degradation._version import __version__

if TYPE_CHECKING:
    from degradation.analysis.verdict_table import verdicts
    from degradation.launchers.runner import run
    from degradation.networks import network
    from degradation.recording import record
    from degradation.spec import RunSpec, StudySpec
    from degradation.study.results import load

__all__ = ["RunSpec", "StudySpec", "__version__", "load", "network", "record", "run", "verdicts"]

_HOMES = {
    "RunSpec": "degradation.spec",
    "StudySpec": "degradation.spec",
    "load": "degradation.study.results",
    "network": "degradation.networks",
    "record": "degradation.recording",
    "run": "degradation.launchers.runner",
    "verdicts": "degradation.analysis.verdict_table",
}


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'degradation' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
