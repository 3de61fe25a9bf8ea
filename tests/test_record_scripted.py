"""TorchScript and a recording: a network that is scripted within the block, and one that was before."""

import pytest
import torch
from torch import nn

import degradation
from degradation.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts(x)


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


@pytest.mark.parametrize("whole", [True, False], ids=["the network", "a part"])
@pytest.mark.parametrize("recordings", [1, 2])
def test_a_network_is_scripted_within_the_block_and_goes_on_being_recorded(whole, recordings):
    model, x = Net(), torch.randn(3, 4)
    original = torch.jit._recursive.create_script_module
    both = [degradation.record(model, every=1) for _ in range(recordings)]
    for rec in both:
        rec.__enter__()
    model(x).sum().backward()
    hooks = hooks_of(model)
    scripted = torch.jit.script(model if whole else model.parts)
    assert hooks_of(model) == hooks
    torch.testing.assert_close(scripted(x), model(x))
    model(x).sum().backward()
    for rec in both:
        rec.__exit__(None, None, None)
        assert rec.step == 2
        assert rec.frame("responses")["std"].notna().all()
        assert not rec.notes
    assert hooks_of(model) == hooks_of(scripted) == []
    assert torch.jit._recursive.create_script_module is original


def test_a_script_that_fails_leaves_the_hooks():
    class Odd(Net):
        def forward(self, x):
            return self.parts(x) + globals()["nothing"]

    model = Odd()
    with degradation.record(model, every=1):
        hooks = hooks_of(model)
        with pytest.raises(Exception, match=r"(?s).*"):
            torch.jit.script(model)
        assert hooks_of(model) == hooks != []


@pytest.mark.parametrize("made", [torch.jit.script, lambda model: torch.jit.trace(model, torch.randn(3, 4))])
def test_a_scripted_network_is_refused_with_the_cause(made):
    with pytest.raises(UserError, match=r"^record: a scripted or traced network [^\n]*$"):
        degradation.record(made(Net()))


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_a_part_that_was_scripted_before_is_named_and_the_others_are_recorded(how):
    torch.manual_seed(0)
    part = nn.Linear(8, 6)
    part = torch.jit.script(part) if how == "scripted" else torch.jit.trace(part, torch.randn(4, 8))
    model = nn.Sequential(nn.Linear(8, 8), part, nn.Linear(6, 2))
    with degradation.record(model, every=1) as rec:
        model(torch.randn(4, 8)).square().mean().backward()
    assert list(rec.frame("gradients")["name"]) == ["0", "2"]
    assert rec.summary().splitlines()[0].startswith("2 layers, 1 measured step of 1; not recorded, though trained: 1 (")
