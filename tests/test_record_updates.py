"""How far the weights moved: where an optimizer steps within the backward, and where no update was made."""

import math

import pytest
import torch
from torch import nn

import degradation

LR = 0.1


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def batch(step):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(step))


def recorded(model, steps, every=1, after=lambda step: None):
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            model(batch(step)).square().mean().backward()
            after(step)
    return rec


def updates(rec, name="0"):
    frame = rec.frame("gradients")
    return frame[frame["name"] == name].set_index("step")["update_norm"]


@torch.no_grad()
def descend(weight):
    weight -= LR * weight.grad
    weight.grad = None


def by_hook(model):
    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(descend)


def by_node(model):
    """As it was done before there was a hook for it: behind the node that accumulates."""
    kept = []
    for weight in model.parameters():
        node = weight.expand_as(weight).grad_fn.next_functions[0][0]
        node.register_hook(lambda *_, weight=weight: descend(weight))
        kept.append(node)
    return kept


@pytest.mark.parametrize("place", [by_hook, by_node])
@pytest.mark.parametrize("every", [1, 2])
def test_an_optimizer_within_the_backward_has_its_updates_and_the_weights_are_those_before(place, every):
    plain = network()

    def step_after(_step):
        for weight in plain.parameters():
            descend(weight)

    expected = recorded(plain, 5, every, step_after)
    model = network()
    kept = place(model)
    found = recorded(model, 5, every)
    for name in ("0", "2"):
        assert updates(found, name).tolist() == pytest.approx(updates(expected, name).tolist(), rel=1e-5)
        assert (updates(found, name) > 0).all()
    for column in ("weight_norm", "weight_grad_norm"):
        one, other = (rec.frame("gradients")[column].tolist() for rec in (found, expected))
        assert one == pytest.approx(other, rel=1e-5)
    assert not found.notes
    del kept


def accumulating(every):
    """Nine steps of which each third one updates."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def every_third(step):
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()

    return recorded(model, 9, every, every_third)


def test_without_an_update_there_is_no_update_norm_and_the_summary_says_why():
    rec = accumulating(every=1)
    assert updates(rec).isna().tolist() == [True, True, False] * 3
    assert (updates(rec).dropna() > 0).all()
    [line] = [line for line in rec.summary().splitlines() if "update_norm" in line]
    assert line == (
        "no update_norm at 6 measured steps, the first is 0: no weight changed before the next backward, as when "
        "gradients accumulate or an update is skipped"
    )
    assert line in rec.notes


def test_where_every_measured_step_is_one_without_an_update_this_is_said_too():
    rec = accumulating(every=3)
    assert updates(rec).isna().all()
    assert "no update_norm at 3 measured steps, the first is 0: " in rec.summary()


def test_a_loop_that_never_updates_is_not_lectured():
    rec = recorded(network(), 3)
    assert updates(rec).isna().all()
    assert not rec.notes


@pytest.mark.filterwarnings("ignore:the weight of 1")
def test_a_weight_without_a_norm_is_no_update():
    model = network()
    model[1] = nn.Linear(4, 4, bias=False)
    model[1].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    model[1].forward = lambda x: x
    rec = recorded(model, 3)
    assert "update_norm" not in rec.summary()


def test_an_update_of_nothing_is_zero():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rec = recorded(model, 3, 1, lambda step: optimizer.step())
    assert updates(rec).tolist() == [0, 0, 0]


def test_a_frozen_layer_does_not_move_where_others_do():
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=LR)
    rec = recorded(model, 3, 1, lambda step: optimizer.step())
    assert updates(rec).tolist() == [0, 0, 0]
    assert (updates(rec, "2") > 0).all()


def test_the_last_step_has_its_update_where_it_was_made_within_the_block():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    rec = recorded(model, 3, 1, lambda step: step < 2 and optimizer.step())
    assert updates(rec).isna().tolist() == [False, False, True]
    assert not rec.notes
    assert math.isnan(updates(rec)[2])
