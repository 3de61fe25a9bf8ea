"""Storage of studies, on a disk or at a URL: bytes in, bytes out. Only this package contains file names.

``runs/NAME/study.json``, ``runs/NAME/RUN_ID/{spec.json, checkpoint.safetensors, *.parquet, final.safetensors,
facts.json, done.json}``, ``runs/NAME/figures/``, ``runs/NAME/mechanisms/EXPERIMENT/RUN_ID/``. Present ``done.json``
means done: it is written last, holds the SHA-256 of every other file, and nothing in that folder is written again.
Files that no done.json lists contain their own digest: done.json itself, study.json, the files of an unfinished run.
"""

from degradation.store.base import Store
from degradation.store.filenames import (
    CHECKPOINT,
    DAMAGED,
    DONE,
    EXPERIMENTS,
    EXPERIMENTS_FOLDER,
    FACTS,
    FIGURES,
    LEASE,
    LOCK,
    LOGS,
    PARTS,
    RUN_ID,
    SPEC,
    STUDY,
    WEIGHTS,
    WRITING,
    frame_file,
    snapshot_file,
)
from degradation.store.location import Place, Url, as_place
from degradation.store.open import store_at
from degradation.store.seals import DIGEST, EMPTY, check_tensors, is_sealed, seal_tensors, sealed, unsealed
from degradation.store.study_folder import ExperimentFolder, StudyFolder, folder_at

__all__ = [
    "CHECKPOINT",
    "DAMAGED",
    "DIGEST",
    "DONE",
    "EMPTY",
    "EXPERIMENTS",
    "EXPERIMENTS_FOLDER",
    "FACTS",
    "FIGURES",
    "LEASE",
    "LOCK",
    "LOGS",
    "PARTS",
    "RUN_ID",
    "SPEC",
    "STUDY",
    "WEIGHTS",
    "WRITING",
    "ExperimentFolder",
    "Place",
    "Store",
    "StudyFolder",
    "Url",
    "as_place",
    "check_tensors",
    "folder_at",
    "frame_file",
    "is_sealed",
    "seal_tensors",
    "sealed",
    "snapshot_file",
    "store_at",
    "unsealed",
]
