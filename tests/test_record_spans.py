"""Which steps a recording calls finite, and what it does not know of the others."""

import math

import pytest
import torch
from torch import nn

import degradation


class Rooted(nn.Module):
    """The root of a branch that is zero has an infinite gradient, so that of ``b`` is NaN while all else is finite."""

    def __init__(self, bad=range(1_000_000)):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 2)
        self.bad, self.step = bad, 0

    def forward(self, x):
        factor = 0 if self.step in self.bad else 1
        self.step += 1
        return self.c(self.a(x) + torch.sqrt(self.b(x * factor).abs()))


class Masked(nn.Module):
    """At ``bad`` steps a response is infinite that no gradient shows."""

    def __init__(self, bad):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.b.register_forward_hook(lambda _m, _i, output: output + (math.inf if self.step in bad else 0))
        self.step = 0

    def forward(self, x):
        seen = self.b(x).clamp(-1, 1)
        self.step += 1
        return self.c(self.a(x) + seen)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def loop(model, steps=25, every=10, bad=(), scaler=None, accumulate=1, move=True):
    """``bad`` are the steps with a NaN in the input; every ``accumulate`` steps the weights are updated."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01 if move else 0.0)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            if step in bad:
                x[0, 0] = math.nan
            loss = model(x).square().mean()
            (loss if scaler is None else scaler.scale(loss)).backward()
            if (step + 1) % accumulate:
                continue
            if scaler is None:
                if all(weight.grad.isfinite().all() for weight in model.parameters()):
                    optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
    return rec


def measured(rec):
    return [int(step) for step in rec.frame("gradients")["step"].unique()]


def broken(rec):
    """The lines that are not the head."""
    return rec.summary().splitlines()[1:]


def test_a_gradient_that_is_never_finite_is_told_as_such_and_not_as_finite_again():
    rec = loop(Rooted())
    assert measured(rec) == [0, 1, 10, 11, 20, 21]
    assert broken(rec)[0] == "not finite since step 0: first the gradient of b"
    assert "again" not in rec.summary()


def test_a_single_step_whose_middle_layer_is_not_finite_is_seen_and_the_next_one_measured():
    rec = loop(Rooted(bad=[13]))
    assert measured(rec) == [0, 10, 14, 20]
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.startswith("not finite at step 13, where no layer was seen to start it: every=1 shows it")
    assert line.endswith("; finite again from step 14")


@pytest.mark.slow
def test_only_a_step_that_was_measured_is_called_finite_again():
    rec = loop(Rooted(bad=[23]), steps=24)
    assert "again" not in rec.summary()
    rec = loop(Rooted(bad=[22, 23]), steps=25)
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.endswith("; at step 24, not measured, the gradients were finite")
    rec = loop(Rooted(bad=[22, 23]), steps=26)
    assert 25 in measured(rec)
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.endswith("; finite again from step 25")


def test_what_only_measured_steps_show_is_told_of_measured_steps():
    rec = loop(Masked(bad=range(100)))
    assert measured(rec) == [0, 1, 10, 11, 20, 21]
    assert broken(rec)[0] == (
        "not finite at every measured step since step 0 (between them only finite gradients were seen): "
        "first the response of b"
    )
    assert "again" not in rec.summary()
    rec = loop(Masked(bad=range(15)))
    assert "at every measured step from step 0 to 11 (" in broken(rec)[0]
    assert broken(rec)[0].endswith(": first the response of b; finite again from step 20")


def test_with_accumulation_the_steps_after_a_nan_are_finite_though_their_sum_is_not():
    rec = loop(plain(), bad=[4], every=1, steps=9, accumulate=8)
    assert "not finite at step 4: first the input of 0; finite again from step 5" in rec.summary()


@pytest.mark.parametrize("to_none", [True, False])
def test_it_makes_no_difference_how_gradients_are_cleared(to_none):
    model = Rooted(bad=[5])
    with degradation.record(model, every=10) as rec:
        for _ in range(9):
            model.zero_grad(set_to_none=to_none)
            model(torch.randn(16, 8)).square().mean().backward()
    assert "not finite at step 5, " in rec.summary()
    assert "finite again from step 6" in rec.summary()


def test_an_optimizer_within_the_backward_hides_nothing():
    model = Rooted(bad=[5])

    def stepped(weight):
        weight.grad = None

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(stepped)
    with degradation.record(model, every=10) as rec:
        for _ in range(9):
            model(torch.randn(16, 8)).square().mean().backward()
    assert "not finite at step 5, " in rec.summary()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_gradients_of_any_type_are_watched(dtype):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.odd = nn.Linear(4, 4), nn.Parameter(torch.ones(4, dtype=dtype))

        def forward(self, x):
            return self.linear(x) * self.odd.abs().float()

    model = Odd()
    with degradation.record(model, every=10) as rec:
        for step in range(4):
            model.zero_grad()
            with torch.no_grad():
                model.odd.fill_(1)
            outputs = model(torch.randn(2, 4))
            if step == 2:
                model.odd.grad = torch.full_like(model.odd, math.nan)
            outputs.sum().backward()
    assert "not finite" not in rec.summary()


def spoilt(values):
    values = values.clone()
    values[1, 150] = math.nan
    return values


@pytest.mark.parametrize("where", ["input", "response", "gradient"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(600, 600, bias=False), (3, 600)),
        (lambda: nn.Conv2d(200, 200, 3, padding=1, bias=False), (2, 200, 5, 5)),
    ],
    ids=["linear", "convolution"],
)
def test_one_value_that_is_not_finite_is_seen_in_a_gradient_too_large_to_be_read_whole(make, shape, where):
    model = nn.ModuleList([nn.Linear(1, 1), make()])  # the first is reached first, and is finite
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            model.zero_grad()
            change = spoilt if step == 2 else torch.clone
            x = torch.randn(shape)
            response = model[1](change(x) if where == "input" else x)
            if where == "gradient":
                response.register_hook(change)
            outputs = change(response) * response if where == "response" else response
            (outputs.nansum() + model[0](torch.ones(1)).sum()).backward()
    assert "not finite at step 2, " in rec.summary()


def test_a_sparse_gradient_is_watched():
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 2))
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            model.zero_grad()
            seen = model[0](torch.tensor([1, 2]))
            if step == 2:
                seen.register_hook(lambda gradient: gradient * math.inf * 0)
            model[1](seen).sum().backward()
    assert "not finite at step 2" in rec.summary()
