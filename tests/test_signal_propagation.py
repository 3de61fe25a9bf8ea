"""Measures of signal propagation: against slow second implementations, and networks whose values are known."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from degradation.experiments import signal_propagation
from degradation.experiments.experiment import Settings
from degradation.experiments.signal_propagation import (
    SIGNAL,
    condition,
    cosines,
    gradient_kernel,
    jacobian,
    noise_scale,
)
from degradation.experiments.similarity import aligned_pairs, gram
from tests.made_subject import subject

SETTINGS = Settings(examples=20)


def small_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)]
    return nn.Sequential(*layers).double().eval()


def test_the_jacobian_is_that_of_each_image():
    network, images = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    by_torch = torch.stack([jacrev(lambda image: network(image[None])[0])(image).flatten(1) for image in images])
    assert torch.allclose(jacobian(network, images), by_torch)


def test_an_orthogonal_network_has_singular_values_of_one():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 10, bias=False)).double()
    nn.init.orthogonal_(linear[1].weight)
    values = torch.linalg.svdvals(jacobian(linear, torch.randn(2, 3, 8, 8, dtype=torch.float64)))
    assert torch.allclose(values, torch.ones_like(values))


@pytest.mark.parametrize("at_once", [2**27, 500])
def test_the_kernel_is_that_of_whole_gradients_however_many_fit_into_memory(monkeypatch, at_once):
    monkeypatch.setattr(signal_propagation, "NUMBERS_AT_ONCE", at_once)
    network, images = small_network(), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    weights = dict(network.named_parameters())

    def logit(held, image):
        return functional_call(network, held, (image[None],))[0, 0]

    rows = []
    for image in images:
        gradients = torch.func.grad(logit)(weights, image)
        rows.append(torch.cat([gradients[name].flatten() for name in weights]))
    found = gradient_kernel(network, images.split(1), lambda logits, _: logits[0, 0])
    assert torch.allclose(found, torch.stack(rows) @ torch.stack(rows).T)


def test_gradients_of_one_direction_are_alike_and_orthogonal_ones_well_conditioned():
    same = torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).double()
    assert torch.allclose(cosines(same), torch.ones(3, 3, dtype=torch.float64))
    assert not condition(same) < 1e12
    shattered = torch.diag(torch.tensor([4.0, 2.0, 1.0])).double()
    assert condition(shattered) == 4
    assert torch.allclose(cosines(shattered), torch.eye(3, dtype=torch.float64))
    assert math.isnan(condition(shattered * math.nan))
    assert cosines(torch.zeros(2, 2)).isnan().all()


def test_the_noise_scale_is_that_of_normal_gradients_with_known_mean_and_covariance():
    draws, mean, deviation, size = np.random.default_rng(0), 0.5, 2.0, 16
    known = deviation**2 / mean**2  # trace over squared norm: both are sums over the same number of weights
    covered = 0
    for _ in range(40):
        chunks = mean + deviation / size**0.5 * draws.standard_normal((32, 200))
        value, low, high = noise_scale(torch.from_numpy(chunks @ chunks.T), size)
        assert value == pytest.approx(known, rel=0.25)
        assert low < value < high
        covered += low <= known <= high
    assert 35 <= covered <= 40


def test_the_noise_scale_equals_the_definition_from_single_examples():
    gradients = 1 + np.random.default_rng(1).standard_normal((64, 30))
    trace, mean = np.trace(np.cov(gradients.T)), gradients.mean(0)
    squared = mean @ mean - trace / 64
    value, _, _ = noise_scale(torch.from_numpy(gradients @ gradients.T), 1)
    assert value == pytest.approx(trace / squared)


def test_gradients_that_are_noise_alone_have_no_noise_scale():
    chunks = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert all(math.isnan(number) for number in noise_scale(chunks @ chunks.T, 8))


def hsic(one, other):
    """Song et al. 2012, equation 5, term by term."""
    n = len(one)
    one, other = one - np.diag(np.diag(one)), other - np.diag(np.diag(other))
    ones = np.ones(n)
    middle = (ones @ one @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    return (np.trace(one @ other) + middle - 2 / (n - 2) * (ones @ one @ other @ ones)) / (n * (n - 3))


def test_cka_is_the_ratio_of_unbiased_estimates():
    draws = np.random.default_rng(0)
    responses = [draws.standard_normal((12, width)) for width in (5, 40, 7)]
    responses.append(3 * responses[0] @ np.linalg.qr(draws.standard_normal((5, 5)))[0] + 2)  # rotated, scaled, moved
    grams = [each @ each.T for each in responses]
    by_hand = [[hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b)) for b in grams] for a in grams]
    found = aligned_pairs([gram(torch.from_numpy(each)) for each in responses]).numpy()
    assert np.allclose(found, by_hand)
    assert found[0, 3] == pytest.approx(1)


def test_unrelated_responses_have_a_cka_of_zero_on_average_however_wide():
    draws = torch.Generator().manual_seed(0)
    found = []
    for _ in range(20):
        one, other = torch.randn(2, 32, 500, generator=draws, dtype=torch.float64)
        found.append(float(aligned_pairs([gram(one), gram(other)])[0, 1]))
    assert abs(np.mean(found)) < 0.02
    with pytest.raises(ValueError, match="four images"):
        aligned_pairs([torch.ones(3, 3), torch.ones(3, 3)])


@pytest.fixture(scope="module")
def rows():
    one = subject("residual")
    return pd.concat([SIGNAL.measure(one, SETTINGS, part) for part in SIGNAL.parts(one, SETTINGS)])


def test_the_frame_holds_every_quantity_of_both_states_and_the_layers_of_the_network(rows):
    assert list(rows.columns) == list(SIGNAL.columns)
    assert set(rows["quantity"]) == set(signal_propagation.QUANTITIES)
    assert set(zip(rows["state"], rows["step"], rows["statistics"], strict=True)) == {
        ("initial", 0, "re-estimated"),
        ("trained", subject().run.recipe.steps, "running"),
    }
    cka = rows[(rows["quantity"] == "cka") & (rows["state"] == "trained")]
    assert len(cka) == 8 * 9 / 2
    assert cka.loc[cka["index"] == cka["other"], "value"].to_numpy() == pytest.approx(1)
    values = rows[rows["quantity"] == "jacobian"].groupby("state")["value"]
    assert values.apply(lambda each: each.is_monotonic_decreasing and len(each) == 10).all()
    alike = rows[rows["quantity"].str.contains("cosine")]
    assert alike["value"].between(-1, 1).all()


def test_equal_arguments_give_equal_rows(rows):
    one = subject("residual")
    parts = SIGNAL.parts(one, SETTINGS)
    again = pd.concat([SIGNAL.measure(one, SETTINGS, part) for part in parts])
    pd.testing.assert_frame_equal(rows, again)


def test_gradients_of_a_class_are_compared_with_those_of_the_class(rows):
    one = subject("residual")
    network = one.network().double()
    images, labels = (torch.cat(each) for each in zip(*one.batches("train", 64), strict=True))
    flat = []
    for image, label in zip(images.double(), labels, strict=True):
        loss = F.cross_entropy(network(image[None]), label[None])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        flat.append(torch.cat([gradient.flatten() for gradient in gradients]))
    pairs = [(i, j) for i in range(len(flat)) for j in range(i)]
    by_hand = {pair: float(F.cosine_similarity(flat[pair[0]], flat[pair[1]], dim=0)) for pair in pairs}
    found = rows[rows["state"] == "trained"].set_index("quantity")["value"]
    within = [cosine for (i, j), cosine in by_hand.items() if labels[i] == labels[j]]
    across = [cosine for (i, j), cosine in by_hand.items() if labels[i] != labels[j]]
    assert found["gradient-cosine-within"] == pytest.approx(np.mean(within), abs=1e-6)
    assert found["gradient-cosine-across"] == pytest.approx(np.mean(across), abs=1e-6)
    assert found["gradient-cosine-least"] == pytest.approx(min(by_hand.values()), abs=1e-6)


def test_a_kept_step_is_measured_with_its_own_weights():
    trained = subject("residual")
    kept = {7: lambda: trained.initial().state_dict()}
    one = replace(trained, snapshots=kept)
    assert [part for part in SIGNAL.parts(one, SETTINGS) if part.endswith("-ntk")] == [
        "initial-ntk",
        "step7-ntk",
        "trained-ntk",
    ]
    at_step = SIGNAL.measure(one, SETTINGS, "step7-ntk")
    initial = SIGNAL.measure(one, SETTINGS, "initial-ntk")
    assert (at_step["state"] == "snapshot").all()
    assert (at_step["step"] == 7).all()
    assert at_step["value"].tolist() == initial["value"].tolist()
    assert at_step["value"].tolist() != SIGNAL.measure(one, SETTINGS, "trained-ntk")["value"].tolist()
