"""What a recording says, draws and hands to TensorBoard."""

import math
import sys
import types

import pytest
import torch
from torch import nn

import degradation
from degradation.errors import UseError


def recorded(model, x, steps=1, **asked):
    with degradation.record(model, every=1, **asked) as rec:
        for _ in range(steps):
            model(x).square().mean().backward()
    return rec


def chain(count=5):
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(count)))


def test_a_healthy_network_stands_out_nowhere():
    lines = recorded(chain(), torch.randn(16, 8), steps=2).summary().splitlines()
    assert lines == [
        "5 layers, 2 measured steps, the last is 1",
        "no layer vanishes, explodes or is dead",
    ]


@pytest.mark.parametrize(("factor", "said"), [(1e-4, True), (1e-2, False)])
def test_a_gradient_that_vanishes_names_its_layers(factor, said):
    """The weight after a large activation learns, the ones before a tiny weight do not."""
    model = chain()
    with torch.no_grad():
        model[1].weight.mul_(factor)
    text = recorded(model, torch.randn(16, 8), responses=False).summary()
    assert ("the gradient vanishes in 0 " in text) == said


@pytest.mark.parametrize(("factor", "said"), [(1e4, True), (10, False)])
def test_a_response_that_explodes_names_its_layer(factor, said):
    model = chain()
    with torch.no_grad():
        model[4].weight.mul_(factor)
    text = recorded(model, torch.randn(16, 8), gradients=False).summary()
    assert ("the response explodes in 4 " in text) == said


def test_a_dead_layer_is_named():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    with torch.no_grad():
        model[0].bias.fill_(-100)
    text = recorded(model, torch.randn(16, 8)).summary()
    assert "dead behind a ReLU: no response is above zero in 0" in text
    assert "dead: no gradient reaches the weight of" in text


def test_the_first_response_that_is_not_finite_is_the_first_in_forward_order():
    model, x = chain(), torch.randn(16, 8)
    with degradation.record(model, every=1) as rec:
        model(x).mean().backward()
        with torch.no_grad():
            model[2].weight.fill_(float("inf"))
        model(x).mean().backward()
    assert "not finite: first the response of 2 at step 1" in rec.summary()


def test_the_first_gradient_that_is_not_finite_is_the_last_in_forward_order():
    model, x = chain(), torch.randn(16, 8)
    with degradation.record(model, every=1) as rec:
        middle = model[:3](x) * 1
        middle.register_hook(lambda gradient: gradient * float("inf"))
        model[3:](middle).mean().backward()
    assert "not finite: first the gradient of 2 at step 0" in rec.summary()


def test_a_layer_that_takes_no_part_is_not_called_broken():
    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    with degradation.record(model, every=1) as rec:
        model[0](torch.randn(4, 8)).mean().backward()
    assert "not finite" not in rec.summary()
    assert rec.frame("responses")["std"].isna().tolist() == [False, True]


def test_nothing_recorded_is_said_and_not_drawn():
    with degradation.record(chain()) as rec:
        pass
    assert "nothing was recorded" in rec.summary()
    assert list(rec.frame("responses").columns)[:2] == ["step", "layer"]
    with pytest.raises(UseError, match="nothing to draw"):
        rec.plot()


def test_the_figure_holds_the_frames_numbers():
    rec = recorded(chain(), torch.randn(16, 8), steps=9)
    above, below, zeros = rec.plot().axes
    assert [line.get_label() for line in above.lines] == [f"step {step}" for step in (0, 3, 5, 8)]
    frame = rec.frame("gradients")
    assert list(above.lines[0].get_ydata()) == list(frame.query("step == 0")["weight_grad_norm"])
    frame = rec.frame("responses")
    assert list(below.lines[-1].get_ydata()) == list(frame.query("step == 8")["std"])
    assert list(zeros.lines[-1].get_ydata()) == list(frame.query("step == 8")["zero_fraction"])
    assert [label.get_text() for label in zeros.get_xticklabels()] == ["0", "1", "2", "3", "4"]


def test_a_step_without_a_finite_number_has_no_line_and_is_named():
    model, x = chain(), torch.randn(16, 8)
    with degradation.record(model, every=1) as rec:
        model(x).mean().backward()
        model(x * math.nan).mean().backward()
    for axes in rec.plot().axes:
        assert [line.get_label() for line in axes.lines] == ["step 0"]
        assert axes.get_legend().get_title().get_text() == "no finite number:\nstep 1"


def test_no_marker_is_cut_by_the_edge_of_its_panel():
    for axes in recorded(chain(), torch.randn(16, 8), steps=3).plot().axes:
        low, high = axes.transData.transform([(1, value) for value in axes.get_ylim()])[:, 1]
        drawn = [axes.transData.transform(line.get_xydata())[:, 1] for line in axes.lines]
        assert max(part.max() for part in drawn) < high - 3
        assert min(part.min() for part in drawn) >= low


def test_eighty_layers_are_all_named():
    rec = recorded(chain(80), torch.randn(4, 8))
    assert len(rec.plot().axes[-1].get_xticklabels()) == 80


def test_every_number_becomes_a_scalar_of_tensorboard(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def add_scalar(self, tag, value, step):
            written.append((tag, value, step))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    rec = recorded(chain(), torch.randn(16, 8), steps=2)
    rec.to_tensorboard(tmp_path)
    assert len(written) == 2 * 5 * (5 + 3)
    norm = rec.frame("gradients").query("step == 1 and name == '3'")["weight_grad_norm"].iloc[0]
    assert ("gradients/weight_grad_norm/3", norm, 1) in written


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UseError, match="pip install tensorboard") as refused:
        recorded(chain(), torch.randn(4, 8)).to_tensorboard(tmp_path)
    assert "\n" not in str(refused.value)
