"""Copies of a network that are made while it is recorded: whole-model checkpoints and deep copies."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import degradation


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = network()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


WAYS = {
    "torch.save": saved_and_loaded,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "state dict": by_state,
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def step(model):
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def nothing(_module, _inputs, _output):
    pass


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_within_a_recording_has_the_weights_and_no_hook_of_it(way, steps):
    model = network()
    with degradation.record(model, every=2) as rec:
        for _ in range(steps):
            step(model)
        other = WAYS[way](model)
        step(model)
    assert hooks_of(other) == []
    assert all("__getstate__" not in vars(module) for module in (*other.modules(), *model.modules()))
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert not any(weight._backward_hooks for weight in other.parameters())
    step(other)
    assert rec.step == steps + 1


def test_a_copy_within_a_recording_keeps_the_hooks_of_others():
    model = network()
    handle = model[0].register_forward_hook(nothing)
    with degradation.record(model, every=1):
        assert hooks_of(saved_and_loaded(model)) == [nothing]
        assert hooks_of(copy.copy(model[0])) == [nothing]
        handle.remove()
        assert hooks_of(saved_and_loaded(model)) == []


def test_of_two_recordings_of_a_network_neither_is_in_a_copy_whichever_ends_first():
    model = network()
    one, other = degradation.record(model, every=1), degradation.record(model, every=1)
    one.__enter__(), other.__enter__()
    assert hooks_of(saved_and_loaded(model)) == []
    one.__exit__(None, None, None)
    assert hooks_of(saved_and_loaded(model)) == []
    assert (
        len(hooks_of(model)) == 4
    )  # of two layers, a first one before its norm, and the network, whose forwards are counted
    other.__exit__(None, None, None)
    assert hooks_of(model) == []


class Chosen(nn.Linear):
    """Says itself what a copy takes."""

    def __getstate__(self):
        return vars(self) | {"mine": 1}


def test_a_module_that_says_itself_what_a_copy_takes_is_asked():
    with degradation.record(nn.Sequential(Chosen(4, 2)), every=1) as rec:
        copied = saved_and_loaded(rec._network)
    assert copied[0].mine == 1
    assert hooks_of(copied) == []
