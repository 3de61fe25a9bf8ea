"""What a recording says of the loop as a whole: updates, standstill, gradients that pile up or never arrive."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import degradation
from degradation.recording.findings import TRY


def network(depth=4):
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(16, 16), nn.ReLU())), nn.Linear(16, 4))


def trained(model, rate=1e-2, steps=8, clear=True, weights=None, shape=(32, 16), every=1, accumulate=1):
    """The recording of an ordinary loop."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters() if weights is None else weights, lr=rate)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            if clear and step % accumulate == 0:
                optimizer.zero_grad()
            outputs = model(torch.randn(shape))
            F.cross_entropy(outputs, torch.randint(0, outputs.shape[1], (len(outputs),))).backward()
            if step % accumulate == accumulate - 1:
                optimizer.step()
    return rec


def kinds(rec):
    return [one.kind for one in rec.findings]


@pytest.mark.slow
def test_a_healthy_loop_has_no_finding():
    assert kinds(trained(network())) == []
    assert kinds(trained(network(), steps=24, accumulate=4)) == []


@pytest.mark.parametrize(("rate", "found"), [(1e-9, ["updates too small"]), (1e-2, [])])
def test_a_rate_at_which_no_weight_moves_is_told(rate, found):
    rec = trained(network(), rate=rate)
    assert kinds(rec) == found
    assert ("every update is tiny: in 8 measured steps each weight moved " in rec.summary()) == bool(found)


def test_a_rate_that_is_warmed_up_and_one_that_ends_at_zero_are_not_too_small():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with degradation.record(model, every=1) as rec:
        for rate in (0, 0, 0, 0, 1e-2, 0, 0, 0, 0):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            model(torch.randn(8, 16)).square().mean().backward()
            optimizer.step()
    assert kinds(rec) == []


def test_a_rate_that_overwrites_the_weights_is_told_with_its_step():
    rec = trained(network(), rate=1e3)
    assert "updates too large" in kinds(rec)
    assert "every update is huge: at step 0 half of the weights moved by at least " in rec.summary()


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4])
def test_an_optimizer_that_holds_other_weights_is_told(every):
    [one] = trained(network(), weights=network().parameters(), steps=24, every=every).findings
    assert one.kind == "not moving"
    assert one.text == f"not moving: in {24 // every - (every == 1)} measured steps no update changed any weight"


def test_a_step_that_is_never_called_is_told_and_two_gradients_alone_are_not():
    assert "not moving" in kinds(trained(network(), accumulate=100, clear=False))
    assert kinds(trained(network(), accumulate=100, steps=2)) == []


def test_an_empty_batch_cuts_nothing_off():
    model = network()
    with degradation.record(model, every=1) as rec:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for step in range(6):
            optimizer.zero_grad()
            x, y = torch.randn(8, 16), torch.randint(0, 4, (8,))
            size = 0 if step == 5 else 8
            F.cross_entropy(model(x[:size]), y[:size], reduction="sum").backward()
            optimizer.step()
    assert kinds(rec) == []
    text = rec.summary()
    assert "at step 5: no response and no gradient was read, so nothing can be judged" in text
    assert "the batch was empty (step 5)" in text
    last = rec.frame("gradients").query("step == 5")
    assert (last["weight_grad_norm"] == 0).all()


def test_a_last_layer_that_begins_at_zero_does_not_move_too_far():
    model = network(1)
    nn.init.zeros_(model[2].weight)
    assert "updates too large" not in kinds(trained(model, weights=model[2].parameters(), rate=0.1))


@pytest.mark.parametrize("how", ["frozen", "left out"])
def test_layers_that_stand_still_are_named(how):
    model = network()
    if how == "frozen":
        model[0].requires_grad_(False)
        model[2].requires_grad_(False)
    rec = trained(model, weights=[*model[4:].parameters()])
    [one] = rec.findings
    assert one.kind == "not moving"
    why = " (frozen: requires_grad is False)" if how == "frozen" else ""
    assert one.text == f"not moving: 0, 2{why}: in 8 measured steps no update changed the weight"


def test_gradients_that_no_one_clears_are_told_and_accumulated_ones_are_not():
    rec = trained(network(), clear=False, rate=1e-3)
    assert kinds(rec) == ["gradients pile up"]
    assert "at 7 measured steps in a row .grad still held those of the update before" in rec.summary()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with degradation.record(model, every=1) as rec:
        for _ in range(8):
            model(torch.randn(8, 16)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    assert kinds(rec) == []


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.front, self.rnn = nn.Linear(8, 8), nn.LSTM(8, 8, batch_first=True)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        x = self.rnn(self.front(x))[0]
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(x[:, -1].detach())


def test_trained_layers_to_which_no_gradient_ever_comes_are_named():
    rec = trained(Detached(), shape=(32, 5, 8))
    [one] = rec.findings
    assert one.kind == "cut off"
    assert one.text == (
        "no gradient ever reaches the weight of front, rnn.weight_ih_l0, rnn.weight_hh_l0 and 2 more, "
        "though the forward uses it"
    )


def test_two_heads_with_a_backward_each_are_not_cut_off():
    body, heads = nn.Linear(16, 16), nn.ModuleList([nn.Linear(16, 4), nn.Linear(16, 4)])
    model = nn.ModuleList([body, heads])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with degradation.record(model, every=2) as rec:
        for _ in range(5):
            optimizer.zero_grad()
            hidden = body(torch.randn(8, 16))
            first, second = (head(hidden).square().mean() for head in heads)
            first.backward(retain_graph=True)
            second.backward()
            optimizer.step()
    assert "cut off" not in kinds(rec)


@pytest.mark.parametrize("side", [16, 64])
def test_pooling_over_positions_makes_no_layer_stand_out(side):
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    model = nn.Sequential(*convs, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert kinds(trained(model, shape=(8, 3, side, side))) == []


class Transposed(nn.Module):
    """As ``Conv1D`` of transformers: a linear layer whose weight is (in, out)."""

    def __init__(self, before, after):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(before, after) * before**-0.5)
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x):
        return x @ self.weight + self.bias


class Table(nn.Module):
    """A weight of two dimensions that is no linear layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 4))

    def forward(self, x):
        return x + self.weight[:, :1].T


def test_transposed_linear_layers_are_recorded_and_other_matrices_named_first():
    torch.manual_seed(0)
    model = nn.Sequential(
        Transposed(16, 24), nn.ReLU(), Transposed(24, 16), nn.LayerNorm(16), Table(), nn.Linear(16, 4)
    )
    rec = trained(model)
    assert list(rec.frame("gradients").query("step == 0")["name"]) == ["0", "2", "3", "5"]
    assert (
        rec.summary().splitlines()[0].startswith("4 layers, 8 measured steps of 8; not recorded, though trained: 4 (T")
    )
    row = rec.frame("gradients").query("name == '0'").iloc[-1]
    assert row["weight_grad_norm"] == pytest.approx(model[0].weight.grad.norm().item(), rel=1e-5)


def test_a_transposed_layer_that_vanishes_is_told():
    torch.manual_seed(0)
    model = nn.Sequential(*(Transposed(16, 16) for _ in range(8)), nn.Linear(16, 4))
    with torch.no_grad():
        for part in model[:8]:
            part.weight.mul_(0.1)
    assert "vanishing" in kinds(trained(model))


def test_every_finding_has_a_kind_and_a_line_of_what_to_try_once_behind_its_kind():
    rec = trained(network(), rate=1e3)
    assert {one.kind for one in rec.findings} <= set(TRY)
    lines = rec.summary().splitlines()
    for one in rec.findings:
        assert one.text in lines
        assert lines.count(f"  try: {one.try_}") == 1


def test_no_line_of_what_to_try_is_longer_than_a_line():
    assert max(map(len, TRY.values())) <= 110
