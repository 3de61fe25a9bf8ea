"""A recording that is entered, left and entered again; several at once; what fails within one; what it leaves."""

import gc
import math

import pytest
import torch
from torch import nn

import degradation
from degradation.errors import UserError
from degradation.recording import backward_hooks, grad_scaler, module_hooks, recorder, updates, weights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def step(model):
    model(torch.randn(8, 4)).square().mean().backward()


def hooks_of(model):
    modules = sum(len(module._forward_hooks) for module in model.modules())
    return modules + sum(len(weight._backward_hooks or ()) for weight in model.parameters())


@pytest.mark.parametrize("before", [0, 1, 2, 10])
def test_a_running_recording_is_not_entered_again_and_nothing_is_left_behind(before):
    model, scale = network(), torch.amp.GradScaler.scale
    rec = degradation.record(model, every=10)
    with rec:
        for _ in range(before):
            step(model)
        hooks = hooks_of(model)
        with pytest.raises(UserError, match=r"^record: this recording is already running[^\n]*$"):
            rec.__enter__()
        assert hooks_of(model) == hooks
        step(model)
    assert rec.step == before + 1
    assert hooks_of(model) == 0
    assert torch.amp.GradScaler.scale is scale


def test_a_recording_that_was_left_goes_on_when_it_is_entered_again():
    model = network()
    rec = degradation.record(model, every=1)
    for _epoch in range(3):
        with rec:
            step(model)
            step(model)
        step(model)
    assert rec.step == 6
    assert list(rec.frame("gradients")["step"].unique()) == list(range(6))
    assert hooks_of(model) == 0


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_recordings_leave_the_scaler_and_scripting_as_they_were_in_any_order(first_out):
    scale, script = torch.amp.GradScaler.scale, torch.jit._recursive.create_script_module
    both = [degradation.record(network(), every=1) for _ in range(2)]
    for rec in both:
        rec.__enter__()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    both[first_out].__exit__(None, None, None)
    other = both[1 - first_out]
    scaler.scale(other._network(torch.ones(1, 4)).sum()).backward()
    other.__exit__(None, None, None)
    assert torch.amp.GradScaler.scale is scale
    assert torch.jit._recursive.create_script_module is script
    expected = network()
    expected(torch.ones(1, 4)).sum().backward()
    found = other.frame("gradients").set_index("name")["weight_grad_norm"]["0"]
    assert found == pytest.approx(expected[0].weight.grad.norm().item(), rel=1e-5)


@pytest.mark.slow
def test_a_backward_that_fails_leaves_nothing_behind():
    model = network()
    fails = [True]

    def fail(_gradient):
        if fails[0]:
            raise RuntimeError("mine")

    model[0].weight.register_hook(fail)
    with degradation.record(model, every=1) as rec:
        for _ in range(5):
            with pytest.raises(RuntimeError, match="mine"):
                step(model)
        gc.collect()
        assert len(rec._backwards._running) == 0
        fails[0] = False
        model.zero_grad()
        step(model)
    assert rec.step == 1
    found = rec.frame("gradients").set_index("name")["weight_grad_norm"]["0"]
    assert found == pytest.approx(model[0].weight.grad.norm().item(), rel=1e-5)


INNER = {
    "what a gradient is": (backward_hooks, "peaks"),
    "the parts of a gradient": (backward_hooks, "_parts"),
    "the norm of a weight": (weights, "norm_of"),
    "the size of a gradient": (module_hooks, "size_of"),
    "the input": (module_hooks, "finite_of"),
    "the output": (module_hooks, "first_tensor"),
    "when it is answered": (module_hooks, "when_answered"),
    "pooling": (module_hooks, "pooled"),
    "where it was not finite": (recorder, "first_place"),
    "the order": (recorder, "in_forward_order"),
    "the listener": (recorder, "Listener"),
    "the distance": (updates, "_distance"),
    "a scaled loss": (grad_scaler, "peaks"),
}


@pytest.mark.parametrize(("module", "name"), INNER.values(), ids=list(INNER))
@pytest.mark.filterwarnings("error")
def test_what_fails_within_a_recording_is_a_line_and_ends_no_loop(module, name, monkeypatch):
    def broken(*_values, **_named):
        raise ValueError("mine")

    model, scaler = network(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monkeypatch.setattr(module, name, broken)
    with degradation.record(model, every=2) as rec:
        for _ in range(5):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
    assert rec.step == 5
    assert any("ValueError: mine" in note for note in rec.notes)
    assert all(note in rec.summary() for note in rec.notes)
    assert rec.summary().count("mine") <= 3
    assert hooks_of(model) == 0
    assert math.isfinite(model[0].weight.sum().item())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_errors_that_say_something_else_at_every_step_are_a_bounded_number_of_lines(monkeypatch):
    said = iter(range(1000))

    def broken(*_values, **_named):
        raise ValueError(f"at {next(said)}")

    model = network()
    monkeypatch.setattr(weights, "norm_of", broken)
    with degradation.record(model, every=1) as rec:
        for _ in range(100):
            step(model)
    assert rec.step == 100
    assert len(rec.notes) == 31
    assert rec.notes[-1].startswith("more that could not be measured (")
