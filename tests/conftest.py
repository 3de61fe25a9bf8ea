"""One thread per process: tiny networks gain nothing from more, and processes of the tests run side by side.

Where a run does take all cores, as a user's would, its threads sleep while they wait: OpenMP's would spin, and take the
core from the other tests (28 s of processor time instead of 5 for eight runs of four steps).
"""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


FIRST = ("test_ray.py", "test_report.py", "test_runner.py")
"""Files that take longest; they begin first, or they would run alone at the end."""


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """With ``-n auto`` one more process than xdist would start: the tests of Ray, one file, mostly wait."""
    return (yield) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """With ``-n`` the tests of a file stay in one process: what a module's fixtures train is trained once."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False  # files begin in the order of `pytest_collection_modifyitems`


def pytest_collection_modifyitems(items):
    """Files with slow tests begin first; tests marked ``gpu`` are skipped where torch finds no CUDA device."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in FIRST, item.path not in slow))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
