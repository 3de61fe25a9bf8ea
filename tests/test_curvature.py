"""Hessian-vector products, Lanczos and their frame, against matrices and Hessians that are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from degradation import network
from degradation.experiments.curvature import CURVATURE
from degradation.experiments.draws import signs_like
from degradation.experiments.experiment import Settings
from degradation.experiments.lanczos import lanczos
from degradation.experiments.objective import Objective
from degradation.figures.curvature import curvature_data
from degradation.training.step import use_statistics
from tests.made_subject import set_statistics, subject

KINDS = ("plain", "residual")


def examples(count: int, size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=draws).to(memory_format=torch.channels_last)
    return images, torch.randint(0, 10, (count,), generator=draws)


def small_network() -> nn.Module:
    """Convolution, batch norm, ReLU, pool, linear layer, with statistics of its own: 3 x 27 + 6 + 40 weights."""
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    made = nn.Sequential(
        convolution, nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)
    )
    set_statistics(made, [examples(16, seed=3)])
    return made.to(memory_format=torch.channels_last).eval()


def by_hand(flat: torch.Tensor, images: torch.Tensor, norm: nn.BatchNorm2d, statistics: str) -> torch.Tensor:
    """``small_network`` written out: torch.func's own Hessian through batch norm with batch statistics is wrong."""
    weight, gamma, beta, linear, bias = flat.split([81, 3, 3, 30, 10])
    out = F.conv2d(images, weight.view(3, 3, 3, 3), padding=1)
    batch = statistics == "batch"
    mean = out.mean((0, 2, 3)) if batch else norm.running_mean
    variance = ((out - mean[:, None, None]) ** 2).mean((0, 2, 3)) if batch else norm.running_var
    out = (out - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
    out = (gamma[:, None, None] * out + beta[:, None, None]).relu()
    return F.linear(out.mean((2, 3)), linear.view(10, 3), bias)


def exact_hessian(objective: Objective) -> torch.Tensor:
    """The Hessian by torch.func, of the network written out."""
    images = torch.cat([images for images, _ in objective.batches])
    labels = torch.cat([labels for _, labels in objective.batches])
    norm, flat = objective.network[1], torch.cat([weight.detach().reshape(-1) for weight in objective.weights])
    return torch.func.hessian(lambda f: F.cross_entropy(by_hand(f, images, norm, objective.statistics), labels))(flat)


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_products_are_those_of_the_exact_hessian(statistics):
    batches = [examples(24)] if statistics == "batch" else [examples(16), examples(8, seed=1)]
    objective = Objective(network=small_network(), batches=batches, statistics=statistics)
    hessian = exact_hessian(objective)
    found = torch.stack([objective.hessian_times(vector) for vector in torch.eye(len(hessian))])
    assert torch.allclose(found, hessian, atol=1e-5)
    assert torch.allclose(found, found.T, atol=1e-5)
    assert hessian.abs().max() > 0.01


def test_the_hessian_of_a_linear_network_is_the_closed_form():
    torch.manual_seed(0)
    linear = nn.Linear(5, 3, bias=False)
    images, labels = torch.randn(7, 5), torch.randint(0, 3, (7,))
    objective = Objective(network=linear, batches=[(images, labels)])
    p = linear(images).softmax(1).detach()
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # of the softmax's cross-entropy
    closed = torch.einsum("nij,nk,nl->ikjl", middle, images, images).reshape(15, 15) / 7
    found = torch.stack([objective.hessian_times(vector) for vector in torch.eye(15)])
    assert torch.allclose(found, closed, atol=1e-6)


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_products_of_the_family_in_channels_last_are_finite_differences_of_its_gradient(kind, statistics):
    made = network(kind, 8).to(memory_format=torch.channels_last).double()
    images, labels = examples(6, size=8)
    batches = [(images.double(), labels)]
    set_statistics(made, batches)
    objective = Objective(network=made, batches=batches, statistics=statistics)
    torch.manual_seed(0)
    vector = torch.randn(sum(weight.numel() for weight in objective.weights)).double()
    vector /= vector.norm()
    step = 1e-5  # short enough that hardly a ReLU changes sides

    def gradient_at(distance: float) -> torch.Tensor:
        with torch.no_grad():
            for weight, piece in zip(objective.weights, objective._like_weights(vector), strict=True):
                weight.add_(distance * piece)
        with use_statistics(made, statistics):
            loss = F.cross_entropy(made(batches[0][0]), labels)
            return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, objective.weights)])

    found = objective.hessian_times(vector)
    ahead = gradient_at(step)
    behind = gradient_at(-2 * step)
    assert torch.allclose(found, (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-4 * float(found.abs().max()))


def test_the_objective_leaves_mode_and_buffers_as_they_were():
    made = small_network().train()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    for statistics in ("running", "batch"):
        objective = Objective(network=made, batches=[examples(8)], statistics=statistics)
        objective.loss_and_error()
        objective.hessian_times(torch.ones(sum(weight.numel() for weight in objective.weights)))
    assert made.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert all(weight.grad is None for weight in made.parameters())


def known_matrix(eigenvalues: list[float]) -> torch.Tensor:
    torch.manual_seed(2)
    q, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues)).double())
    return q @ torch.diag(torch.tensor(eigenvalues).double()) @ q.T


def test_lanczos_over_the_whole_space_finds_every_eigenvalue_and_exact_moments():
    eigenvalues = [-2.0, -0.5, 0.0, 0.25, 1.0, 7.0]
    matrix = known_matrix(eigenvalues)
    start = torch.tensor([1.0, -1, 1, 1, -1, 1]).double()
    found = lanczos(lambda vector: matrix @ vector, start, 99)
    unit = start / start.norm()
    assert np.allclose(found.values, eigenvalues, atol=1e-8)
    assert np.isclose(found.weights.sum(), 1)
    assert np.isclose(found.weights @ found.values**3, float(unit @ matrix @ matrix @ matrix @ unit))
    assert np.isclose(found.curvature, float(unit @ matrix @ unit))
    assert found.residuals.max() < 1e-6


def test_each_ritz_value_is_within_its_residual_of_an_eigenvalue():
    eigenvalues = [float(number) ** 1.5 for number in range(60)]
    matrix = known_matrix(eigenvalues)
    torch.manual_seed(0)
    found = lanczos(lambda vector: matrix @ vector, torch.randn(60).double(), 12)
    nearest = np.abs(found.values[:, None] - np.array(eigenvalues)[None]).min(axis=1)
    assert len(found.values) == 12
    assert (nearest <= found.residuals + 1e-9).all()
    assert found.residuals.max() > 1  # the inner values have not converged, and the bound says so


def test_a_residual_is_the_distance_of_the_product_from_the_ritz_vector_times_its_value():
    matrix = known_matrix([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    start = torch.tensor([1.0, -1, 1, 1, -1, 1, 1]).double()
    powers = [start]
    for _ in range(3):
        powers.append(matrix @ powers[-1])
    basis, _ = torch.linalg.qr(torch.stack(powers, dim=1))
    values, within = torch.linalg.eigh(basis.T @ matrix @ basis)
    vectors = basis @ within
    found = lanczos(lambda vector: matrix @ vector, start, 4)
    assert np.allclose(found.values, values)
    assert np.allclose(found.residuals, (matrix @ vectors - vectors * values).norm(dim=0), rtol=1e-6)


def test_lanczos_ends_at_an_invariant_subspace():
    matrix = known_matrix([3.0, 3, 3, 3, 5])
    found = lanczos(lambda vector: matrix @ vector, torch.ones(5).double(), 5)
    assert np.allclose(found.values, [3, 5])
    assert found.residuals.max() == 0


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        lanczos(lambda vector: vector * float("nan"), torch.ones(3), 3)


@pytest.mark.slow
def test_the_frame_holds_ritz_values_and_traces_that_agree_with_the_products():
    one, settings = subject("plain"), Settings(examples=80, draws=2, points=2)
    data = pd.concat([CURVATURE.measure(one, settings, part) for part in CURVATURE.parts(one, settings)])
    assert list(data.columns) == list(CURVATURE.columns)
    ritz, trace = data[data["quantity"] == "ritz"], data[data["quantity"] == "trace"]
    assert ritz.groupby("draw").size().to_dict() == {0: 8, 1: 8}
    assert sorted(trace["draw"]) == [0, 1, 2, 3, 4, 5]
    for draw, rows in ritz.groupby("draw"):
        assert rows["value"].is_monotonic_decreasing
        assert np.isclose(rows["weight"].sum(), 1)
        moment = float((rows["weight"] * rows["value"]).sum()) * rows["parameters"].iloc[0]
        assert np.isclose(moment, trace.set_index("draw")["value"][draw], rtol=1e-3)
    top = ritz[ritz["index"] == 0]
    assert (top["residual"] < 0.2 * top["value"]).all()
    assert (data["examples"] == 20).all()


def test_the_pair_starts_from_the_same_signs():
    settings = Settings()
    plain, residual = (signs_like(one.network(), one, settings, "lanczos", 0) for one in map(subject, KINDS))
    assert torch.equal(plain, residual)
    assert set(plain.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(plain.mean())) < 0.02


@pytest.mark.slow
def test_an_estimate_of_the_trace_is_the_curvature_along_its_signs_in_evaluation_mode():
    one, settings = subject("residual"), Settings(examples=80, draws=1, points=2)
    objective = Objective(network=one.network(), batches=list(one.batches("train", 20)))
    signs = signs_like(objective.network, one, settings, "trace", 0, 1)
    known = float(signs @ objective.hessian_times(signs))
    rows = CURVATURE.measure(one, settings, "trace-0")
    assert rows["value"].iloc[1] == pytest.approx(known, rel=1e-4)
    start = signs_like(objective.network, one, settings, "lanczos", 0)
    first = CURVATURE.measure(one, settings, "lanczos-0").query("quantity == 'trace'")["value"].item()
    assert first == pytest.approx(float(start @ objective.hessian_times(start)), rel=1e-4)


def test_the_drawn_shares_of_a_networks_eigenvalues_sum_to_one_over_seeds_that_have_them_elsewhere():
    same = {"arm": "", "network": "plain", "shortcut": "none", "depth": 8, "status": "finished", "run": ""}
    ritz = [("a", -1.0, 0.25), ("a", 5.0, 0.75), ("b", 0.0, 0.5), ("b", 5.0, 0.5)]
    rows = [
        same | {"run_id": run, "quantity": "ritz", "draw": 0, "index": 0, "value": value, "weight": weight}
        for run, value, weight in ritz
    ]
    traces = [same | {"run_id": run, "quantity": "trace", "draw": 0, "value": 2.0} for run in "ab"]
    density = curvature_data(pd.DataFrame(rows + traces)).query("quantity == 'density'")
    assert density["mean"].sum() == pytest.approx(1)
    assert density.set_index("at")["mean"].iloc[[0, -1]].tolist() == pytest.approx([0.125, 0.625])
