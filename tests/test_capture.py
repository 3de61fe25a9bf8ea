"""The wrapper that captures a step: with a stand-in for CUDA graphs here, with true ones where there is a device."""

import shutil
from dataclasses import replace

import pytest
import torch

from degradation.runtime.environment import Environment
from degradation.runtime.progress import silent
from degradation.spec import Measure
from degradation.training import cuda_graph
from degradation.training.cuda_graph import REHEARSALS, Capture
from degradation.training.trainer import RunCallbacks, Training
from tests import made

QUIET = RunCallbacks(should_stop=lambda: False, save=lambda: None, keep_snapshot=lambda step: None, save_seconds=1e9)
CAPTURING = replace(made.CPU, capture=True)
gpu = pytest.mark.gpu


def rehearsed(work):
    """A stand-in for ``cuda_graph``: calls for real what it is given, as a capture must, and replays by calling."""
    for _ in range(REHEARSALS):
        work()
    return work


def refused(work):
    work()
    raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


def training(environment, record=None, say=None, monkeypatch=None, **fields):
    run = made.run_spec(steps=6, measure=Measure(probe_every=2, eval_every=3), **fields)
    if record is not None:
        monkeypatch.setattr(cuda_graph, "cuda_graph", record)
    return Training(run, made.images(), environment, say or silent)


def outcome(trained):
    trained.train(QUIET)
    return trained.state.tensors(), trained.frames()


def assert_equal(one, other):
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert all(one[1][name].equals(other[1][name]) for name in one[1])


def test_the_rehearsals_of_a_capture_leave_no_trace(monkeypatch):
    captured = training(CAPTURING, rehearsed, monkeypatch=monkeypatch)
    assert_equal(outcome(captured), outcome(training(made.CPU)))


def test_each_kind_of_step_is_recorded_once_and_replayed(monkeypatch):
    calls = []

    def counted(work):
        calls.append("recorded")

        def replay():
            calls.append("replayed")
            return work()

        return replay

    captured = training(CAPTURING, counted, monkeypatch=monkeypatch)
    for measured in (False, True, False, False, True):
        captured.stepper.train_measured() if measured else captured.stepper.train()
    assert calls == ["recorded", "replayed", "recorded", *["replayed"] * 4]


def test_a_step_that_cannot_be_captured_is_called_instead_and_says_so(monkeypatch):
    said = []
    captured = training(CAPTURING, refused, said.append, monkeypatch)
    assert_equal(outcome(captured), outcome(training(made.CPU)))
    lines = {progress.message for progress in said if progress.message}
    assert len(lines) == 1
    assert lines.pop().startswith("no CUDA graph (operation not permitted when stream is capturing): ")
    assert "no CUDA graph" in captured.final_facts()["provenance"]["capture"]


def test_nothing_is_wrapped_where_the_environment_does_not_capture():
    def work():
        return torch.zeros(())

    wrap = Capture(environment=made.CPU, rehearsal=lambda: pytest.fail("rehearsed"), say=pytest.fail)
    assert wrap(work) is work


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_step_with_compiled_blocks_is_the_eager_one_to_rounding():
    eager, compiled = (training(replace(made.CPU, compile=compile), depth=8) for compile in (False, True))
    for one in (eager, compiled):
        one.batches.ready(0)
        one.stepper.train()
    assert compiled.state.network.layer1[0].forward.__func__ is type(eager.state.network.layer1[0]).forward
    worst = max(
        ((a - b).norm() / (a.norm() + 1e-12)).item()
        for a, b in zip(eager.state.weights, compiled.state.weights, strict=True)
        if a.norm() > 1e-3
    )
    assert 0 < worst < 1e-5


CUDA = Environment(device="cuda", precision="fp32", threads=1, deterministic=True)


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_run_equals_an_eager_one_on_a_device(precision):
    eager, captured = (training(replace(CUDA, precision=precision, capture=graph)) for graph in (False, True))
    assert_equal(outcome(captured), outcome(eager))


@gpu
def test_one_fp32_step_on_a_device_is_that_of_the_cpu_to_rounding():
    there, here = training(replace(CUDA, capture=True)), training(made.CPU)
    for one in (there, here):
        one.batches.ready(0)
        one.stepper.train()
    assert int(there.state.checksum) == int(here.state.checksum)
    for a, b in zip(there.state.weights, here.state.weights, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-5)


@gpu
def test_an_unmeasured_captured_step_asks_nothing_of_the_host():
    captured = training(replace(CUDA, capture=True))
    captured.batches.ready(0)
    captured.stepper.train()
    torch.cuda.set_sync_debug_mode("error")
    try:
        captured.stepper.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
