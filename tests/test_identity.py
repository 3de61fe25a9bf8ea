"""Identity and CKA on blocks that are exact identities, against definitions, and against modules read by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch

from degradation.experiments.identity import cosine
from degradation.experiments.similarity import cka
from tests.made_trials import rows, subject


def test_exact_identities_have_ratio_zero_cosine_one_and_cka_one():
    measured = rows("identity", subject(identities=True))
    same = measured[measured["against"] == "input"]
    assert len(same) == 4
    assert (measured["ratio"] == 0).all()
    assert (same["change"] == 0).all()
    assert np.allclose(same["cosine"], 1, atol=1e-12)
    assert np.allclose(same["cka"], 1, atol=1e-9)
    assert list(measured.loc[measured["against"] == "shortcut", "change"]) == [0, 0]


def slow_cka(x, y):
    """Sums over all quadruples of different examples: the definition of the unbiased HSIC."""

    def hsic(k, l):  # noqa: E741
        n = len(k)
        pairs = np.mean([k[i, j] * l[i, j] for i, j in permutations(range(n), 2)])
        quads = np.mean([k[i, j] * l[q, r] for i, j, q, r in permutations(range(n), 4)])
        triples = np.mean([k[i, j] * l[i, q] for i, j, q in permutations(range(n), 3)])
        return pairs + quads - 2 * triples

    k, l = (each.double().numpy() @ each.double().numpy().T for each in (x, y))  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def test_cka_agrees_with_its_definition_by_sums_over_examples():
    torch.manual_seed(1)
    x = torch.randn(8, 5)
    y = x[:, :3] + 0.3 * torch.randn(8, 3)
    assert cka(x, y) == pytest.approx(slow_cka(x, y), rel=1e-4)


def test_cka_of_independent_noise_is_zero_even_with_more_values_than_examples():
    torch.manual_seed(2)
    assert abs(cka(torch.randn(200, 2000), torch.randn(200, 2000))) < 0.05


def test_cka_ignores_rotation_scale_and_shift():
    torch.manual_seed(3)
    x = torch.randn(40, 6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    assert cka(x, 3 * x @ rotation + 2) == pytest.approx(1, abs=1e-5)


def test_cka_of_a_constant_representation_is_missing():
    assert np.isnan(cka(torch.ones(10, 3), torch.randn(10, 3)))


def test_the_cosine_is_a_mean_over_examples():
    x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    assert cosine(x, y) == pytest.approx(0.5)


@pytest.mark.parametrize("network", ["plain", "residual"])
def test_identity_reads_inputs_outputs_branches_and_shortcuts_of_the_right_modules(network):
    of = subject(network)
    net = of.network()
    [x, y] = [torch.cat(found) for found in zip(*of.batches("test", 20), strict=True)]
    with torch.no_grad():
        x = net.layer1[0](net.relu(net.bn1(net.conv1(x))))
        block = net.layer1[1]
        branch = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
        y = block(x)
    row = rows("identity", of).iloc[1]
    assert (row["block"], row["against"], row["examples"]) == (2, "input", 20)
    assert row["change"] == pytest.approx(float((y - x).norm() / x.norm()), rel=1e-4)
    assert row["cka"] == pytest.approx(cka(x.flatten(1), y.flatten(1)), rel=1e-4)
    if network == "plain":
        assert np.isnan(row["ratio"])
    else:
        assert row["ratio"] == pytest.approx(float(branch.norm() / x.norm()), rel=1e-4)


def test_a_plain_block_whose_shapes_differ_has_its_cka_alone():
    measured = rows("identity", subject("plain")).set_index("block")
    assert measured.loc[[3, 5], ["change", "cosine"]].isna().all().all()
    assert measured.loc[[3, 5], "cka"].notna().all()
    assert (measured.loc[[3, 5], "against"] == "").all()
