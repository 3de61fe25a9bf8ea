"""What a recording says, draws and hands to TensorBoard."""

import math
import sys
import types
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import degradation
from degradation.errors import UserError


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
    assert lines == ["5 layers, 2 measured steps of 2", "at step 1: no layer vanishes, explodes or is dead"]


def test_what_an_earlier_step_had_and_the_last_has_not_is_said_as_such():
    model, x = chain(), torch.randn(16, 8)
    with degradation.record(model, every=1) as rec:
        for step in range(4):
            with torch.no_grad():
                model[4].weight.mul_(1e-9 if step == 0 else 1e9 if step == 3 else 1)
            model(x).mean().backward()
    lines = rec.summary().splitlines()
    assert lines[1] == "at step 3: no layer vanishes, explodes or is dead"
    assert any(line.startswith("before, at 3 measured steps, 0 to 2: ") for line in lines[2:])


def test_since_when_something_stands_out_is_said():
    model, x = chain(), torch.randn(16, 8)
    with degradation.record(model, every=2) as rec:
        for step in range(7):
            with torch.no_grad():
                model[4].weight.mul_(1e5 if step == 3 else 1)
            model(x).mean().backward()
    assert "at step 6: the response of 4 stands out: " in rec.summary()
    assert rec.summary().splitlines()[-2].endswith("(since step 4)")
    assert rec.summary().splitlines()[-1] == "  try: " + rec.findings[-1].try_


def test_a_recording_that_was_never_entered_says_so():
    rec = degradation.record(chain())
    assert "never entered; put the loop inside `with rec:`" in rec.summary()


class Reader(nn.Module):
    def __init__(self, recurrent=nn.LSTM):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(8))
        self.emb, self.rnn, self.out = nn.Embedding(9, 8), recurrent(8, 16, 2, batch_first=True), nn.Linear(16, 9)

    def forward(self, x):
        return self.out(self.rnn(self.emb(x) + self.start)[0])


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_every_weight_of_a_recurrent_module_is_a_layer(recurrent):
    torch.manual_seed(0)
    model, x = Reader(recurrent), torch.randint(0, 9, (3, 5))
    rec = recorded(model, x)
    names = [f"rnn.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")]
    frame = rec.frame("gradients").set_index("name")
    assert list(frame.index) == [*names, "out"]
    for name in names:
        expected = model.get_parameter(name).grad.norm().item()
        assert frame["weight_grad_norm"][name] == pytest.approx(expected, rel=1e-5)
    responses = rec.frame("responses").set_index("name")
    expected = model.rnn(model.emb(x))[0].std(correction=0).item()
    assert list(responses.index) == [names[-1], "out"]
    assert responses["std"][names[-1]] == pytest.approx(expected, rel=1e-4)


def test_what_holds_weights_and_is_not_recorded_is_listed():
    text = recorded(Reader(), torch.randint(0, 9, (3, 5))).summary()
    assert text.startswith(
        "5 layers, 1 measured step of 1; not recorded, though trained: start (Parameter), emb (Embedding) ("
    )
    assert "not recorded" not in recorded(Reader(), torch.randint(0, 9, (3, 5)), layers="rnn").summary()


class Partly(nn.Module):
    """Uses ``a`` always, ``odd`` at odd steps, ``by_weight`` without calling it, ``teacher`` without gradients."""

    def __init__(self):
        super().__init__()
        self.a, self.odd, self.by_weight = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.teacher, self.frozen, self.u = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8)
        self.step = 0

    def forward(self, x):
        with torch.no_grad():
            x = x + self.teacher(x)
        x = self.a(x) @ self.by_weight.weight
        self.step += 1
        return self.odd(x) if self.step % 2 == 0 else x


def test_a_layer_that_no_measured_step_used_is_named_and_no_other():
    rec = recorded(Partly(), torch.randn(4, 8), steps=4)
    assert [line for line in rec.summary().splitlines() if "never" in line] == ["never used: u"]


def test_of_many_layers_that_were_never_used_some_are_named():
    model = nn.ModuleList([nn.Linear(8, 8) for _ in range(7)])
    with degradation.record(model, every=1) as rec:
        model[0](torch.randn(4, 8)).mean().backward()
    assert "never used: 1, 2, 3 and 3 more" in rec.summary()


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU])
def test_no_weight_of_a_recurrent_module_or_an_attention_that_is_used_is_called_unused(recurrent):
    assert "never" not in recorded(Reader(recurrent), torch.randint(0, 9, (3, 5))).summary()
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert "never" not in recorded(block, torch.randn(2, 3, 8)).summary()


def test_a_cell_and_packed_sequences_are_heard():
    cell = nn.LSTMCell(4, 6)
    with degradation.record(cell, every=1) as rec:
        state = None
        for part in torch.randn(3, 2, 4):
            state = cell(part, state)
        state[0].sum().backward()
    assert rec.frame("responses")["std"].notna().all()
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(2, 5, 8), [5, 3], batch_first=True)
    rnn = nn.GRU(8, 4, batch_first=True)
    with degradation.record(rnn, every=1) as rec:
        rnn(packed)[0].data.sum().backward()
    assert rec.frame("responses")["std"].notna().all()


def warned(loop, model):
    """The summary of a loop in a recording that warns once."""
    rec = degradation.record(model, every=1)
    with warnings.catch_warnings(record=True) as said, rec:
        warnings.simplefilter("always")
        loop()
    assert len(said) == 1
    assert str(said[0].message).split(" (step")[0] in rec.summary()
    return rec.summary()


def test_a_backward_without_its_forward_is_told_once_with_its_cause():
    model, x = chain(), torch.randn(16, 8)

    def loop():
        for _ in range(5):
            outputs = model(x)
            outputs.mean().backward(retain_graph=True)
            outputs.square().mean().backward()

    [line] = [line for line in warned(loop, model).splitlines() if "retain_graph" in line]
    assert line.endswith("(5 steps, the first is 1)")


def test_reentrant_checkpointing_is_named_and_nothing_is_called_healthy():
    inner, head = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Linear(8, 4)
    model = nn.ModuleList([nn.Linear(8, 8), inner, head])

    def loop():
        for _ in range(3):
            head(checkpoint(inner, model[0](torch.randn(4, 8)), use_reentrant=True)).square().mean().backward()

    text = warned(loop, model)
    assert text.count("use_reentrant=False") == 1
    assert "retain_graph" not in text


def test_a_step_of_which_no_number_is_finite_is_not_called_healthy():
    text = recorded(chain(), torch.full((16, 8), math.nan)).summary()
    assert "at step 0: no number is finite, so nothing can be judged" in text
    assert "no layer vanishes" not in text


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
    with pytest.raises(UserError, match="nothing to draw"):
        rec.plot()


@pytest.mark.slow
def test_the_figure_holds_the_frames_numbers():
    rec = recorded(chain(), torch.randn(16, 8), steps=9)
    above, below, zeros = rec.plot().axes
    assert [line.get_label() for line in above.lines] == [f"step {step}" for step in (0, 3, 5, 8)]
    frame = rec.frame("gradients")
    assert list(above.lines[0].get_ydata()) == list(frame.query("step == 0")["weight_grad_norm"])
    frame = rec.frame("responses")
    assert list(below.lines[-1].get_ydata()) == list(frame.query("step == 8")["std"])
    assert list(zeros.lines[-1].get_ydata()) == list(frame.query("step == 8")["zero_fraction"])
    assert above.get_title("left") == "Sequential: 9 measured of 9 steps"
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


@pytest.mark.slow
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
    assert len(written) == 2 * 5 * (4 + 3)  # no weight moves, so that no update has a norm
    norm = rec.frame("gradients").query("step == 1 and name == '3'")["weight_grad_norm"].iloc[0]
    assert ("gradients/weight_grad_norm/3", norm, 1) in written
    rec.to_tensorboard(tmp_path)
    assert len(written) == 2 * 5 * (4 + 3)
    with pytest.raises(UserError, match="nothing to write"):
        degradation.record(chain()).to_tensorboard(tmp_path)


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard") as refused:
        recorded(chain(), torch.randn(4, 8)).to_tensorboard(tmp_path)
    assert "\n" not in str(refused.value)
