"""Names of the files of a study."""

import re

DONE, SPEC, FACTS, CHECKPOINT = "done.json", "spec.json", "facts.json", "checkpoint.safetensors"
WEIGHTS = "final.safetensors"
DAMAGED = "damaged.safetensors"
PARTS = "parts.json"
STUDY = "study.json"
LOCK, LEASE = ".lock", ".lease-"
WRITING = ".writing-"
RUN_ID = re.compile(r"(plain|residual-[ABC])-\d+-s\d+-[0-9a-f]{8}")
FIGURES = "figures"
EXPERIMENTS_FOLDER = "mechanisms"
"""The name of version 0.1, which studies on disk have."""
EXPERIMENTS = ("lesion", "reorder", "identity", "shatter", "paths", "landscape", "curvature", "signal", "construct")
"""The experiments on trained networks; each has a folder of this name in ``EXPERIMENTS_FOLDER``, and a frame."""
LOGS = "logs"


def frame_file(name: str) -> str:
    """The file of a frame in a run's folder."""
    return f"{name}.parquet"


def snapshot_file(step: int) -> str:
    """The file of the weights after ``step`` updates."""
    return f"snapshot-{step}.safetensors"


def is_study_name(name: str) -> bool:
    """Whether a study can have this name: letters, digits, ``-``, ``_`` and ``.``, not ``-`` or ``.`` first."""
    return name[:1] not in ("", ".", "-") and all(letter.isalnum() or letter in "-_." for letter in name)
