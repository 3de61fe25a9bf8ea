"""What layers return and batches hold that is no single tensor of numbers; what a summary says of `every`."""

import math

import pytest
import torch
from torch import nn

import degradation
from degradation.recording import buffer


class Returns(nn.Module):
    """A layer with a weight of its own that returns its output in a wrapping."""

    def __init__(self, wrap):
        super().__init__()
        self.weight, self.wrap = nn.Parameter(torch.randn(4, 4, generator=torch.manual_seed(0))), wrap

    def forward(self, x):
        return self.wrap(x @ self.weight)


class Net(nn.Module):
    def __init__(self, wrap, unwrap):
        super().__init__()
        torch.manual_seed(0)
        self.odd, self.last, self.unwrap = Returns(wrap), nn.Linear(4, 2), unwrap

    def forward(self, x):
        return self.last(self.unwrap(self.odd(x)))


class Pair:
    def __init__(self, y):
        self.y = y


READ = {
    "dict": (lambda y: {"state": None, "out": y}, lambda out: out["out"]),
    "list": (lambda y: [y, y.detach()], lambda out: out[0]),
    "none first": (lambda y: (None, y), lambda out: out[1]),
    "nested": (lambda y: ((None, [torch.zeros(3, dtype=torch.int64)]), {"y": y}), lambda out: out[1]["y"]),
}


@pytest.mark.parametrize(("wrap", "unwrap"), READ.values(), ids=list(READ))
def test_the_first_tensor_of_floats_that_a_layer_returns_is_its_response(wrap, unwrap):
    model, x = Net(wrap, unwrap), torch.randn(8, 4)
    with degradation.record(model, every=1, layers=["odd", "last"]) as rec:
        model(x).square().sum().backward()
    response = (x @ model.odd.weight).detach().requires_grad_(True)
    model.last(response).square().sum().backward()
    found = rec.frame("responses").set_index("name").loc["odd"]
    assert found["std"] == pytest.approx(response.std(correction=0).item(), rel=1e-5)
    gradient = rec.frame("gradients").set_index("name").loc["odd"]["response_grad_norm"]
    assert gradient == pytest.approx(response.grad.norm().item(), rel=1e-5)
    assert not rec.notes


UNREAD = {
    "object": (Pair, lambda out: out.y, "it is a Pair without a tensor of floats"),
    "complex": (lambda y: torch.complex(y, y), lambda out: out.real, "it is a Tensor of torch.complex64"),
}


@pytest.mark.parametrize(("wrap", "unwrap", "why"), UNREAD.values(), ids=list(UNREAD))
def test_a_response_that_cannot_be_measured_is_noted_once(wrap, unwrap, why):
    model = Net(wrap, unwrap)
    rec = degradation.record(model, every=1, layers=["odd", "last"])

    def loop():
        with rec:
            for _ in range(3):
                model(torch.randn(8, 4)).square().sum().backward()

    with pytest.warns(UserWarning, match="the response of odd is not measured") as said:
        loop()
    assert len(said) == 1
    assert f"the response of odd is not measured: {why} (3 steps, the first is 0)" in rec.summary()
    assert rec.first_nonfinite is None
    assert math.isnan(rec.frame("responses").set_index("name")["std"]["odd"].iloc[0])


def test_an_empty_batch_is_called_so():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    rec = degradation.record(model, every=1)

    def loop():
        with rec:
            for size in (8, 0, 8):
                model(torch.randn(size, 4)).square().sum().backward()

    with pytest.warns(UserWarning, match="the batch was empty"):
        loop()
    assert "no response was seen: the batch was empty (step 1)" in rec.summary()
    assert "compiled" not in rec.summary()
    assert rec.first_nonfinite is None


def counted(steps, every):
    model = nn.Sequential(nn.Linear(4, 2))
    with degradation.record(model, every=every) as rec:
        for _ in range(steps):
            model(torch.randn(3, 4)).square().sum().backward()
    return rec.summary().splitlines()


def test_a_summary_says_how_often_was_measured():
    assert counted(5, every=10)[0] == "1 layer, 1 measured step of 5 (every=10)"
    assert counted(25, every=10)[0] == "1 layer, 3 measured steps of 25 (every=10)"
    assert counted(5, every=1)[0] == "1 layer, 5 measured steps of 5"


def test_a_summary_says_which_steps_are_kept_where_not_all_are(monkeypatch):
    monkeypatch.setattr(buffer, "LIMIT", 6)
    lines = counted(30, every=1)
    assert lines[0] == "1 layer, 4 measured steps of 30 (every=8)"
    assert lines[-1] == (
        "at most 6 measured steps are kept: every=1 became every=8, and of earlier steps only its multiples are kept"
    )
