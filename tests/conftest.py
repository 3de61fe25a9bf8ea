"""One thread per process: tiny networks gain nothing from more, and processes of the tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
