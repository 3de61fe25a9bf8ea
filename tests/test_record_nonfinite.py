"""When a recording says that a network was not finite, where it began, and what a GradScaler made of it."""

import math

import pytest
import torch
from torch import nn

import degradation


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
    assert rec.summary().splitlines()[1:] == ["not finite since step 1: first the weight of 4"]
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
    assert "at step 5: no layer vanishes, explodes or is dead" in text


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
    assert "not finite at steps 5 to 6, which was not measured; by step 6 the response of 6; finite again" in text


def test_the_last_step_counts_though_nothing_comes_after_it():
    model = network()
    broken_at(model, 6, 8)
    assert "not finite since step 8, where no layer was seen to begin it" in loop(model, 9, every=10).summary()


def scaled(every, bad=None):
    """Thirty steps under a GradScaler that begins far too high; at step ``bad`` the input is NaN."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    with degradation.record(model, every=every) as rec:
        for step in range(30):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step)) * (math.nan if step == bad else 1)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = model(x).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    return rec


@pytest.mark.parametrize("every", [1, 7])
def test_steps_that_a_grad_scaler_skips_are_no_failure(every):
    rec = scaled(every)
    skips = next(line for line in rec.summary().splitlines() if "GradScaler" in line)
    assert skips.startswith("the GradScaler skipped ")
    assert "(steps 0 to " in skips
    assert skips.endswith("whose scaled gradients were too large: no failure")
    assert "not finite" not in rec.summary()
    assert rec.first_nonfinite is None
    assert "no layer vanishes, explodes or is dead" in rec.summary()


class Rooted(torch.nn.Module):
    """The square root of zero has an infinite slope: the gradient of ``b`` is never finite, all else always is."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.c(self.a(x) + torch.sqrt(self.b(x).abs() * 0))


def unscaled(model, every, bad=lambda step: False, *, steps=25, enabled=True):
    """A loop with a GradScaler in single precision, which nothing overflows; at ``bad`` steps an input is NaN."""
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu", enabled=enabled)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            x[0, 0] = math.nan if bad(step) else x[0, 0]
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
    return rec


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        (0, "not finite since step 0: first the input of 0; the GradScaler skipped 25 steps"),
        (12, "not finite since step 12, which was not measured; by step 13 the input of 0; the GradScaler skipped 13"),
    ],
)
def test_a_forward_that_is_not_finite_is_not_put_down_to_the_scale(begins, words):
    rec = unscaled(network(), 10, lambda step: step >= begins)
    assert words in rec.summary()
    assert "no failure" not in rec.summary()
    assert rec.first_nonfinite is not None


def test_a_skipped_step_that_was_not_measured_may_be_either():
    text = unscaled(network(), 10, lambda step: step == 7).summary()
    assert "the GradScaler skipped 1 step (step 7), as where scaled gradients are too large; a bad batch looks" in text
    assert "no failure" not in text
    assert "whether it recovers is not known" in unscaled(Rooted(), 1, steps=3).summary()


@pytest.mark.parametrize("every", [1, 10])
def test_what_is_left_at_a_factor_below_one_does_not_come_from_the_scale(every):
    text = unscaled(Rooted(), every).summary()
    assert "first the gradient of b; the GradScaler skipped 25 steps" in text
    assert "no failure" not in text


def test_a_layer_between_those_that_are_watched_is_not_said_to_be_finite_where_it_was_not_measured():
    model, losses = Rooted(), []
    with degradation.record(model, every=10) as rec:
        for _ in range(25):  # without an update, which would spread it
            model.zero_grad()
            losses.append(model(torch.randn(16, 8)).square().mean())
            losses[-1].backward()
    assert all(loss.isfinite() for loss in losses)
    assert list(rec.frame("gradients")["step"].unique()) == [0, 1, 10, 11, 20, 21]
    assert (
        "not finite at every measured step from 0 to 21: first the gradient of b; not measured since" in rec.summary()
    )
    assert "again" not in rec.summary()


def test_a_scaler_that_is_not_enabled_is_none():
    text = unscaled(network(), 10, lambda step: step == 20, enabled=False).summary()
    assert "not finite since step 20: first the input of 0" in text
    assert "GradScaler" not in text


def test_a_layer_that_nobody_calls_is_named():
    model = Rooted()
    model.forgotten, model.frozen = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3).requires_grad_(False)
    assert "never used in a measured step: forgotten" in unscaled(model, 1).summary()
    attention = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)  # whose projection is used as a function
    with degradation.record(attention) as rec:
        attention(torch.randn(2, 3, 8)).sum().backward()
    assert "never used" not in rec.summary()


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
