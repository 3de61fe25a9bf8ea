"""When a recording says that a network was not finite, where it began, and what a GradScaler made of it."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import degradation
from degradation.recording.nonfinite import on_device


def network():
    torch.manual_seed(0)
    parts = [part for _ in range(4) for part in (nn.Linear(8, 8), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(8, 2))


def loop(model, steps, every=1, change=None, update=True):
    """``change`` may change the inputs of a step; without ``update`` no weight moves."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            x = x if change is None else change(step, x)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if update:
                optimizer.step()
    return rec


def broken_at(model, layer, step):
    """The response of a layer is NaN at its ``step``-th call."""
    calls = []

    def hook(_module, _inputs, output):
        calls.append(None)
        return output * math.nan if len(calls) == step + 1 else None

    model[layer].register_forward_hook(hook)


def poisoned(model, layer):
    def change(step, x):
        if step == 1:
            with torch.no_grad():
                model[layer].weight.fill_(math.inf)
        return x

    return change


def test_the_first_layer_in_forward_order_and_its_weight_are_named():
    model = network()
    rec = loop(model, 2, change=poisoned(model, 4), update=False)
    [broken] = rec.findings
    assert (broken.kind, broken.text) == ("not finite", "not finite since step 1: first the weight of 4")
    assert rec.summary().splitlines()[1:] == [broken.text, f"  try: {broken.try_}"]
    assert (rec.first_nonfinite.step, rec.first_nonfinite.layer) == (1, "4")


def test_the_first_response_is_named_where_the_weights_are_finite():
    model = network()
    broken_at(model, 6, 1)
    assert "not finite since step 1: first the response of 6" in loop(model, 2).summary()


def test_a_gradient_that_breaks_on_the_way_back_is_the_last_in_forward_order():
    model = network()
    with degradation.record(model, every=1) as rec:
        middle = model[:4](torch.randn(16, 8)) * 1
        middle.register_hook(lambda gradient: gradient * math.inf)
        model[4:](middle).mean().backward()
    assert "not finite since step 0: first the gradient of 2" in rec.summary()
    assert "no layer vanishes" not in rec.summary()


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_input_that_is_not_finite_is_the_inputs(bad):
    def change(step, x):
        if step == 2:
            x[0, 0] = bad
        return x

    text = loop(network(), 6, change=change, update=False).summary()
    assert "not finite at step 2: first the input of 0; finite again from step 3" in text
    assert "at step 5" not in text


def test_a_step_that_is_not_measured_is_watched_and_the_next_one_measured():
    model = network()
    broken_at(model, 6, 5)
    rec = loop(model, 9, every=10)
    assert list(rec.frame("gradients")["step"].unique()) == [0, 6]
    assert "not finite since step 5, which was not measured; by step 6 the weight of 0 (and those of 4 more)" in (
        rec.summary()
    )
    assert "no layer vanishes" not in rec.summary()


def test_where_no_update_spreads_it_the_next_step_shows_the_layer():
    model = network()

    def change(step, x):
        if step == 5:
            broken_at(model, 6, 0)
            broken_at(model, 6, 1)
        return x

    text = loop(model, 8, every=10, change=change, update=False).summary()
    assert (
        "not finite at steps 5 to 6, which was not measured; by step 6 the response of 6; at step 7, not measured"
        in text
    )


def test_the_last_step_counts_though_nothing_comes_after_it():
    model = network()
    broken_at(model, 6, 8)
    assert "not finite since step 8, where no layer was seen to start it" in loop(model, 9, every=10).summary()


def test_a_gradient_that_is_not_finite_costs_the_recording_no_bit():
    def ends(recorded):
        model = network()
        broken_at(model, 2, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        rec = degradation.record(model, every=2)
        if recorded:
            rec.__enter__()
        for step in range(6):
            optimizer.zero_grad()
            model(torch.randn(16, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
        if recorded:
            rec.__exit__(None, None, None)
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    torch.testing.assert_close(ends(True), ends(False), rtol=0, atol=0, equal_nan=True)


class Transfers(TorchDispatchMode):
    """The tensors that are copied from one device to another."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if isinstance(found, torch.Tensor) and any(tensor.device != found.device for tensor in tensors):
            self.seen.append(function)
        return found


@pytest.mark.parametrize("scaled", [True, False])
def test_what_is_watched_at_every_step_is_made_where_the_gradients_lie(scaled):
    # The meta device stands for any other one than the CPU.
    numbers, one = [torch.ones((), device="meta")] * 3, torch.ones((), device="meta")
    with Transfers() as transfers:
        on_device(numbers, one if scaled else None, one if scaled else None)
    assert transfers.seen == []


def images(**first):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, **first), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
    )


def of_images(model, spoil, steps=4, every=10):
    """``spoil`` gets the step, the images and the loss's weight, and may change both; returns the first finding."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(1)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            x, factor = spoil(step, torch.randn(4, 3, 8, 8))
            optimizer.zero_grad()
            (model(x).square().mean() * factor).backward()
            optimizer.step()
    return rec.findings[0].text


def test_a_loss_that_is_not_finite_is_not_laid_to_the_images_where_a_norm_is_behind_the_first_layer():
    text = of_images(images(), lambda step, x: (x, math.nan if step == 1 else 1.0))
    assert text.startswith(
        "not finite since step 1, which was not measured; by step 2 the weight of 0 (and those of 1 "
    )


def test_images_that_are_not_finite_are_named_where_a_norm_is_behind_the_first_layer():
    text = of_images(images(), lambda step, x: (x * math.nan if step == 1 else x, 1.0), every=1)
    assert text == "not finite since step 1: first the input of 0"


def test_a_first_layer_that_overflows_is_named_with_its_response():
    model = images().double()
    with torch.no_grad():
        model[0].weight *= 1e200
    text = of_images(model, lambda step, x: (x.double() * 1e150, 1.0), steps=1)
    assert text == "not finite since step 0: first the response of 0"


def test_weights_of_an_embedding_are_not_laid_to_its_input():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    def run(every):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with degradation.record(model, every=every) as rec:
            for step in range(4):
                optimizer.zero_grad()
                (model(torch.randint(0, 10, (4,))).square().mean() * (math.nan if step == 1 else 1)).backward()
                optimizer.step()
        return rec.findings[0].text

    assert "by step 2 the weight of 1" in run(10)
