"""Values of any magnitude and type: what is finite is called finite, what is not zero is not recorded as zero."""

import copy
import math
import re

import pytest
import torch
from torch import nn

import degradation
from degradation.networks.layout import Layer, Layout, Normalized
from degradation.probes import PROBE_REGISTRY, Measurement, Readings, magnitudes
from degradation.recording import backward_hooks

FROZEN = [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2]


class Quantized(nn.Module):
    """A frozen weight of codes or of very short floats, beside layers that are trained."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.codes, self.last = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 2)
        weight = torch.randint(0, 3, (4, 4)).to(dtype)
        self.codes.weight = nn.Parameter(weight, requires_grad=False)
        self.codes.forward = lambda x: x @ self.codes.weight.float()

    def forward(self, x):
        return self.last(self.codes(self.first(x)))


@pytest.mark.parametrize("dtype", FROZEN)
@pytest.mark.filterwarnings("ignore:the weight of codes")
def test_frozen_weights_of_any_type_end_no_loop(dtype):
    model = Quantized(dtype)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.001)
    with degradation.record(model, every=1) as rec:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    rows = rec.frame("gradients").query("step == 2").set_index("name")
    assert rows["weight_grad_norm"]["first"] == pytest.approx(model.first.weight.grad.norm().item(), rel=1e-5, abs=0)
    assert rows["update_norm"]["first"] > 0
    assert rec.first_nonfinite is None
    if dtype.is_floating_point:
        assert rows["weight_norm"]["codes"] == pytest.approx(model.codes.weight.float().norm().item(), rel=1e-5, abs=0)
        assert not rec.notes
    else:
        assert math.isnan(rows["weight_norm"]["codes"])
        assert f"the weight of codes is not measured: it holds whole numbers ({dtype})" in rec.summary()


def once(model, x, scale=1.0, every=1, steps=1):
    with degradation.record(model, every=every) as rec:
        for _ in range(steps):
            model.zero_grad()
            (model(x) * scale).sum().backward()
    return rec


SCALES = {torch.float32: [1e20, 1e-24, 1e30, 1e-36], torch.float64: [1e50, 1e-50, 1e200, 1e-200]}


@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype, scales in SCALES.items() for scale in scales])
def test_gradients_of_any_magnitude_have_their_norm(dtype, scale):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)).to(dtype), torch.randn(4, 8, dtype=dtype)
    ordinary = once(model, x).frame("gradients")
    rec = once(model, x, scale)
    found = rec.frame("gradients")
    for column in ("weight_grad_norm", "response_grad_norm", "response_grad_rms"):
        assert found[column].tolist() == pytest.approx((ordinary[column] * scale).tolist(), rel=1e-5, abs=0)
    assert rec.first_nonfinite is None
    assert "not finite" not in rec.summary()
    assert "no gradient" not in rec.summary()


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e25), (torch.float32, 1e-30), (torch.float64, 1e180)])
def test_responses_and_weights_of_any_magnitude_have_their_numbers(dtype, scale):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Tanh()).to(dtype), torch.randn(4, 8, dtype=dtype)
    ordinary = once(model, x)
    with torch.no_grad():
        model[0].weight.mul_(scale)
    rec = once(model, x)
    for frame, columns in {"responses": ["mean", "std"], "gradients": ["weight_norm"]}.items():
        for column in columns:
            [expected], [found] = ordinary.frame(frame)[column] * scale, rec.frame(frame)[column]
            assert found == pytest.approx(expected, rel=1e-5, abs=0), column
    assert rec.first_nonfinite is None


def test_an_update_of_any_magnitude_has_its_norm():
    model = nn.Sequential(nn.Linear(4, 2, bias=False)).double()
    with degradation.record(model, every=1) as rec:
        model(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
        with torch.no_grad():
            model[0].weight += 1e170
    assert rec.frame("gradients")["update_norm"].tolist() == pytest.approx([1e170 * math.sqrt(8)], rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "value"), [(torch.float32, 3e38), (torch.float32, -3e38), (torch.float64, 1e300), (torch.bfloat16, 3e38)]
)
@pytest.mark.parametrize("clear", [True, False])
def test_between_measured_steps_a_finite_value_is_finite_whatever_its_square(dtype, value, clear):
    model = nn.Sequential(nn.Linear(4, 4, bias=False)).to(dtype)
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            if clear:
                model.zero_grad()
            outputs = model(torch.ones(1, 4, dtype=dtype))
            outputs.backward(torch.full_like(outputs, value if step == 2 else 1e-3))
    assert list(rec.frame("gradients")["step"].unique()) == [0]
    assert "not finite" not in rec.summary()


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("whole", [True, False])
def test_between_measured_steps_one_value_that_is_not_finite_is_seen(bad, whole, monkeypatch):
    monkeypatch.setattr(backward_hooks, "WHOLE", 2**18 if whole else 1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            model.zero_grad()
            outputs = model(torch.ones(1, 4))
            gradient = torch.ones(1, 4)
            gradient[0, 2] = bad if step == 2 else 1
            outputs.backward(gradient)
    assert "not finite at step 2, " in rec.summary()


def test_a_large_input_and_a_large_loss_are_finite():
    model, scaler = nn.Sequential(nn.Linear(4, 2)).double(), torch.amp.GradScaler("cpu", init_scale=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with degradation.record(model, every=1) as rec:
        for _ in range(2):
            optimizer.zero_grad()
            loss = (model(torch.full((3, 4), 1e60, dtype=torch.float64)) * 1e20).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert rec.first_nonfinite is None
    assert "not finite" not in rec.summary()


def relus(gain, depth=60):
    torch.manual_seed(0)
    parts = []
    for _ in range(depth):
        linear = nn.Linear(64, 64, bias=False)
        nn.init.normal_(linear.weight, std=gain / math.sqrt(64))
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts)


def exact(model, x):
    """The norms of the weights' gradients, of the same network in float64, where no square of them overflows."""
    other = copy.deepcopy(model).double()
    other.zero_grad()
    other(x.double()).sum().backward()
    return [part.weight.grad.norm().item() for part in other if isinstance(part, nn.Linear)]


def test_sixty_plain_relu_layers_of_gain_three_explode_and_are_finite():
    model, x = relus(3), torch.randn(16, 64)
    rec = once(model, x)
    frame = rec.frame("gradients")
    assert frame["weight_grad_norm"].max() > 2e19
    assert frame["weight_grad_norm"].tolist() == pytest.approx(exact(model, x), rel=1e-3, abs=0)
    assert rec.first_nonfinite is None
    assert "the response explodes with depth" in rec.summary()


def test_forty_five_sigmoid_layers_vanish_and_none_is_zero():
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(45) for part in (nn.Linear(64, 64), nn.Sigmoid())))
    x = torch.randn(16, 64)
    rec = once(model, x)
    frame = rec.frame("gradients")
    assert frame["weight_grad_norm"].min() < 1e-22
    assert frame["weight_grad_norm"].tolist() == pytest.approx(exact(model, x), rel=1e-3, abs=0)
    assert "the gradient vanishes towards the input" in rec.summary()
    assert "to nothing" not in rec.summary()
    assert "no gradient" not in rec.summary()


@pytest.mark.filterwarnings("error")
def test_a_factor_that_float64_does_not_hold_is_told():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(9))).double()
    with torch.no_grad():
        for part in model:
            part.weight.mul_(1e60)
    text = once(model, torch.randn(8, 4, dtype=torch.float64) * 1e-290).summary()
    assert re.search(r"the response explodes with depth: by a factor of 1e\+3\d\d from 1 ", text)


def test_no_number_is_waited_for_on_a_device():
    # A CUDA graph holds no read of the host; the meta device, which has no numbers, refuses each.
    values = [torch.empty(5, 4, device="meta") for _ in range(3)]
    layers = tuple(Layer(number=n, name=str(n), stage=1, response=str(n)) for n in range(3))
    named = {str(n): one for n, one in enumerate(values)}
    seen = Measurement(
        layout=Layout(layers=layers, blocks=()),
        outputs=named,
        normalized={"1": Normalized(gamma=values[0][0], beta=values[0][0], inverse_std=values[0][0], eps=1e-5)},
        output_gradients=named,
        weights=tuple(values),
        weight_gradients=tuple(values),
        updates=tuple(values),
    )
    probes = [PROBE_REGISTRY[name] for name in ("gradients", "responses")]
    assert Readings.read(probes, seen).shape == (3 * 5 + 3 * 3,)
    assert Readings.read_parts(probes, [seen, seen], lambda parts: parts).dtype == torch.float32


# the functions that the studies' probes share with a recording


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-44, 1e19, 1e30, 3e37])
@pytest.mark.parametrize("shift", [0.0, 0.3, 200.0])
def test_norm_mean_and_std_are_those_of_the_values_in_double_precision(scale, shift):
    values = ((torch.randn(50, 40, generator=torch.manual_seed(0)) + shift) * (scale / max(1, shift))).float()
    wide = values.double()
    [norm] = magnitudes.norms([values])
    mean, std = magnitudes.mean_std(values).tolist()
    assert norm.item() == pytest.approx(wide.norm().item(), rel=1e-5, abs=0)
    assert mean == pytest.approx(wide.mean().item(), rel=1e-4, abs=1e-6 * wide.abs().max().item())
    assert std == pytest.approx(wide.std(correction=0).item(), rel=1e-2 if scale == 1e-44 else 1e-3, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_of_ordinary_values_the_bits_are_those_of_plain_float32(dtype):
    values = [torch.randn(300, generator=torch.manual_seed(step)).to(dtype) * 10.0**step for step in range(-3, 3)]
    plain = torch.stack(torch._foreach_norm(values, 2, dtype=torch.float32))
    assert torch.equal(magnitudes.norms(values).float(), plain)
    for one in values:
        mean = one.sum(dtype=torch.float32) / one.numel()
        square = torch._foreach_norm([one], 2, dtype=torch.float32)[0].square() / one.numel()
        expected = torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()])
        assert torch.equal(magnitudes.mean_std(one).float(), expected)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_so(bad):
    values = torch.ones(10)
    values[3] = bad
    assert not magnitudes.norms([values]).isfinite().any()
    assert not magnitudes.mean_std(values)[1].isfinite()
    assert not magnitudes.all_finite(magnitudes.peaks([torch.ones(3), values]))
    assert magnitudes.all_finite(magnitudes.peaks([torch.ones(3), torch.zeros(0)]))


def test_nothing_is_zero():
    assert magnitudes.norms([torch.zeros(3), torch.zeros(0)]).tolist() == [0, 0]
    assert magnitudes.mean_std(torch.full((7,), 0.1)).tolist() == pytest.approx([0.1, 0.0], abs=1e-7)


def test_constant_values_behind_a_batch_norm_have_a_deviation_of_next_to_nothing_and_not_nan():
    for eps in (1e-5, 1e-3, 0.3, 0.7):
        model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=eps))
        rec = once(model, torch.ones(4, 1, 3, 3))
        [std] = rec.frame("responses")["std"]
        assert 0 <= std < 1e-3
        assert rec.first_nonfinite is None
