"""Each probe against a slow, obvious second implementation, and against the closed form where there is one."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from degradation import networks
from degradation.data.batches import Batches
from degradation.probes import Measurement, Taps
from degradation.probes.gradients import needs
from degradation.probes.probe import moments
from degradation.runtime.environment import Environment
from degradation.runtime.progress import silent
from degradation.spec import Measure
from degradation.training.lr_schedule import learning_rate
from degradation.training.step import forward
from degradation.training.trainer import RunCallbacks, Training
from tests import made

QUIET = RunCallbacks(should_stop=lambda: False, save=lambda: None, keep_snapshot=lambda step: None, save_seconds=1e9)
STEPS = 3


def rows_of(kind: str, shortcut: str = "A", precision: str = "fp32"):
    run = made.run_spec(kind, 14, steps=STEPS, measure=Measure(probe_every=1))
    if kind == "residual":
        run = run.model_copy(update={"shortcut": shortcut})
    training = Training(run, made.images(), Environment(device="cpu", precision=precision, threads=1), silent)
    training.train(QUIET)
    return run, {name: frame.to_dict("records") for name, frame in training.frames().items()}


def naive(run):
    """The same training as a plain PyTorch loop that looks at everything, one number at a time."""
    network = networks.for_run(run)
    batches = Batches(made.images(), run.recipe, run.seed, torch.device("cpu"))
    momentum = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    for step in range(STEPS + 1):
        batches.ready(step)
        images, labels, _ = batches.fill(torch.tensor(step))
        outputs = {}
        handles = [
            module.register_forward_hook(
                lambda _m, _i, out, name=name, kept=outputs: kept.update({name: out}) or out.retain_grad()
            )
            for name, module in network.named_modules()
            if name.split(".")[-1] in ("bn1", "bn2", "downsample")
        ]
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        [handle.remove() for handle in handles]
        before = copy.deepcopy(dict(network.named_parameters()))
        gradients = {name: weight.grad.clone() for name, weight in network.named_parameters()}
        with torch.no_grad():
            for name, weight in network.named_parameters():
                momentum[name] = 0.9 * momentum[name] + weight.grad + run.recipe.weight_decay * weight
                weight -= learning_rate(run.recipe, step) * momentum[name]
        yield step, before, gradients, dict(network.named_parameters()), outputs


def population_std(tensor):
    values = tensor.detach().double()
    return math.sqrt(((values - values.mean()) ** 2).mean().item())


def response_of(name):
    return name.replace("conv", "bn")


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_gradients_are_those_of_a_naive_loop(kind):
    run, rows = rows_of(kind)
    found = {(row["step"], row["name"]): row for row in rows["gradients"]}
    assert len(found) == (STEPS + 1) * 14
    for step, before, gradients, after, outputs in naive(run):
        for name in {name for _, name in found}:
            row, weight = found[step, name], f"{name}.weight"
            assert row["weight_norm"] == pytest.approx(before[weight].norm().item(), rel=1e-4)
            assert row["weight_grad_norm"] == pytest.approx(gradients[weight].norm().item(), rel=1e-3)
            moved = (after[weight] - before[weight]).norm().item()
            expected = (
                pytest.approx(moved, rel=1e-3, abs=1e-6) if step < STEPS else pytest.approx(math.nan, nan_ok=True)
            )
            assert row["update_norm"] == expected
            if name == "fc":
                assert math.isnan(row["response_grad_norm"])
                continue
            gradient = outputs[response_of(name)].grad.double()
            assert row["response_grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-3)
            assert row["response_grad_rms"] == pytest.approx((gradient**2).mean().sqrt().item(), rel=1e-3)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_responses_are_those_of_a_naive_loop(kind):
    run, rows = rows_of(kind)
    found = {(row["step"], row["name"]): row for row in rows["responses"]}
    assert len(found) == (STEPS + 1) * 13
    for step, _, _, _, outputs in naive(run):
        for name in {name for _, name in found}:
            row, response = found[step, name], outputs[response_of(name)].detach().double()
            assert row["std"] == pytest.approx(population_std(response), rel=1e-4)
            assert row["mean"] == pytest.approx(response.mean().item(), rel=1e-3, abs=1e-5)
            assert row["zero_fraction"] == pytest.approx((response <= 0).double().mean().item(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_branches_are_those_of_a_naive_loop(shortcut):
    run, rows = rows_of("residual", shortcut)
    found = {(row["step"], row["name"]): row for row in rows["branches"]}
    assert len(found) == (STEPS + 1) * 6
    for step, _, _, _, outputs in naive(run):
        for name in {name for _, name in found}:
            row = found[step, name]
            branch, added = (population_std(outputs[f"{name}.{part}"]) for part in ("bn2", "downsample"))
            assert row["branch_std"] == pytest.approx(branch, rel=1e-4)
            assert row["shortcut_std"] == pytest.approx(added, rel=1e-4)
            assert row["ratio"] == pytest.approx(branch / added, rel=1e-4)


def test_a_plain_network_has_no_branch_rows():
    assert rows_of("plain")[1]["branches"] == []


def scattered(network):
    """Gamma and beta far from where they start, so that their part is seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.uniform_(-1, 1, generator=generator)


def test_the_closed_form_in_gamma_beta_and_the_batch_variance_is_the_std_of_the_values():
    run = made.run_spec("residual", 8, steps=STEPS, measure=Measure(probe_every=1))
    training = Training(run, made.images(), made.CPU, silent)
    training.train(QUIET)
    network = training.state.network
    scattered(network)
    responses = {}
    handles = [
        network.get_submodule(layer.response).register_forward_hook(
            lambda _m, _i, out, name=layer.name: responses.update({name: out.detach().double()})
        )
        for layer in network.layout.responding
    ]
    training.readings.add(STEPS, training.stepper.measure())
    [handle.remove() for handle in handles]
    for row in training.frames()["responses"].tail(len(responses)).to_dict("records"):
        response = responses[row["name"]]
        assert row["std"] == pytest.approx(population_std(response), rel=1e-5)
        assert row["mean"] == pytest.approx(response.mean().item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_moments_are_the_same_in_closed_form_and_from_the_values(precision):
    network = networks.network("residual", 14)
    scattered(network)
    names = needs(network.layout)
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with Taps(network, names) as taps:
        forward(network, images, replace(made.CPU, precision=precision))
    assert list(taps.normalized) == list(names)
    seen = {"layout": network.layout, "outputs": {name: out.detach() for name, out in taps.outputs.items()}}
    rest = {"output_gradients": {}, "weights": (), "weight_gradients": (), "updates": None}
    closed, measured = (
        moments(Measurement(**seen, **rest, normalized=known), names) for known in (taps.normalized, {})
    )
    tolerance = {"fp32": 1e-5, "bf16": 3e-3}[precision]
    torch.testing.assert_close(closed, measured, rtol=tolerance, atol=tolerance)


def test_running_statistics_and_other_modules_have_no_closed_form():
    network = networks.network("residual", 8)
    images = torch.randn(4, 3, 8, 8)
    with Taps(network, ["bn1"]) as taps:
        network.eval()(images)
    assert not taps.normalized
    with Taps(network, ["conv1"]) as taps:
        network.train()(images)
    assert not taps.normalized


def test_hooks_are_gone_after_a_measured_step():
    run = made.run_spec(measure=Measure(probe_every=1))
    training = Training(run, made.images(), made.CPU, silent)
    training.train(QUIET)
    assert all(not module._forward_hooks for module in training.state.network.modules())


def test_bf16_norms_are_near_those_of_fp32():
    exact, rounded = rows_of("residual")[1], rows_of("residual", precision="bf16")[1]
    for one, other in zip(exact["gradients"][:13], rounded["gradients"][:13], strict=True):
        assert other["weight_grad_norm"] == pytest.approx(one["weight_grad_norm"], rel=0.1)
