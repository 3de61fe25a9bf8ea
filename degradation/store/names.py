"""What the files of a study are called."""

DONE, SPEC, FACTS, CHECKPOINT = "done.json", "spec.json", "facts.json", "checkpoint.safetensors"
WEIGHTS = "final.safetensors"
DAMAGED = "damaged.safetensors"
PARTS = "parts.json"
STUDY = "study.json"
LOCK, LEASE = ".lock", ".lease-"
WRITING = ".writing-"
FIGURES = "figures"
MECHANISMS = "mechanisms"
LOGS = "logs"


def frame_file(name: str) -> str:
    """The file of a frame in a run's folder."""
    return f"{name}.parquet"


def snapshot_file(step: int) -> str:
    """The file of the weights after ``step`` updates."""
    return f"snapshot-{step}.safetensors"
