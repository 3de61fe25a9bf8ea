"""A thousand run folders -> seconds and peak memory of the commands that read them, beside those of before."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.made_folders import PAPER, make_folders

NAME = "many"
BEFORE = Path(__file__).parent / "results" / "folders-before.json"
"""The same table as the version before reading in parallel gave it: 6510853."""
COLUMNS = ("gradients", "step", "weight_grad_norm")
LOAD = "import degradation; results = degradation.load({path!r}); print({frames})"


def commands(root: Path) -> dict[str, list[str]]:
    """What is measured, each in a process of its own: its name -> the arguments of python."""
    study, out = [NAME, "--root", str(root)], ["--out", str(root / "out")]
    frames = {"runs": "results['runs']", "curves": "results['curves']", "gradients": "results['gradients']"}
    frames |= {"two columns of gradients": "results.frame('gradients', ('step', 'weight_grad_norm'))"}
    frames |= {"every frame": "[len(frame) for frame in results.values()]"}
    loads = {f"load, {what}": ["-c", LOAD.format(path=str(root / NAME), frames=code)] for what, code in frames.items()}
    return {
        "status": ["-m", "degradation", "status", *study],
        "status --verify": ["-m", "degradation", "status", *study, "--verify"],
        "load": ["-m", "degradation", "load", *study],
        "load NAME gradients step weight_grad_norm": ["-m", "degradation", "load", *study, *COLUMNS],
        **loads,
        "plot": ["-m", "degradation", "plot", *study, *out],
        "report": ["-m", "degradation", "report", *study, *out],
        "run --no-figures, nothing pending": ["-m", "degradation", "run", *study, "--no-figures"],
    }


def folders() -> list[dict[str, Any]]:
    """A row for each command: seconds on the clock, of processor time, peak memory, and what they were before."""
    before = {row["what"]: row for row in json.loads(BEFORE.read_text())} if BEFORE.is_file() else {}
    with tempfile.TemporaryDirectory() as place:
        make_folders(Path(place), NAME, PAPER)
        found = {what: measured(arguments) for what, arguments in commands(Path(place)).items()}
    return [{"what": what, **cost, **_were(before.get(what, {}))} for what, cost in found.items()]


def _were(row: dict[str, Any]) -> dict[str, Any]:
    return {f"before, {name}": value for name, value in row.items() if name not in ("what", "s")}


WATCH = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A process of its own that starts the measured one: a process is counted at least as large as the one it came from."""


def measured(arguments: list[str]) -> dict[str, float]:
    """Seconds, seconds of processor time (which what else the machine does moves less) and peak MiB of one process."""
    watched = [sys.executable, "-c", WATCH, sys.executable, *arguments]
    said = subprocess.run(watched, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(zip(("s", "processor s", "peak MiB"), map(float, said.split()), strict=True))
