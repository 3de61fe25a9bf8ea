"""Lesion and reorder on networks whose answers are known: exact identities, and blocks deleted by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from degradation.data.batches import Batches
from degradation.errors import UserError
from degradation.experiments import REGISTRY, ablation, experiment_named
from degradation.experiments.evaluate import draws, error_rows, reestimate
from degradation.experiments.experiment import Settings
from degradation.experiments.reorder import exchanged, stages, tau
from degradation.spec import BlockSpec
from degradation.store import EXPERIMENTS
from tests.made_trials import SETTINGS, rows, subject


def by_hand(of, forward):
    """The error of a forward written out, on the first 20 test images."""
    [(x, labels), *rest] = of.batches("test", 20)
    with torch.no_grad():
        wrong = sum(int((forward(a).argmax(1) != b).sum()) for a, b in [(x, labels), *rest])
    return wrong / 20


# The registry and the subject


def test_the_registry_knows_exactly_the_frames_that_can_be_loaded():
    assert tuple(REGISTRY) == EXPERIMENTS
    for name in REGISTRY:
        assert experiment_named(name).name == name
        assert experiment_named(name).question.endswith("?")


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_the_rows_of_every_part_have_the_columns_and_part_names_are_unique(name, network):
    found, of = experiment_named(name), subject(network)
    parts = list(found.parts(of, SETTINGS))
    assert len(set(parts)) == len(parts)
    assert all(part.replace("-", "").isalnum() for part in parts)
    measured = rows(name, of)
    assert set(measured.columns) == set(found.columns)
    assert len(measured.astype(dict(found.columns)))


def test_a_subjects_network_is_the_trained_one_and_its_initial_network_is_not():
    of = subject()
    trained, initial = of.network(), of.initial()
    assert not trained.training
    assert all(torch.equal(tensor, of.weights[name]) for name, tensor in trained.state_dict().items())
    assert torch.equal(initial.conv1.weight, trained.conv1.weight)  # the made subject was never trained
    assert torch.all(initial.bn1.running_var == 1)
    assert not torch.equal(initial.bn1.running_var, trained.bn1.running_var)


def test_a_subjects_network_has_the_blocks_of_its_run():
    of = subject()
    run = of.run.model_copy(update={"block": BlockSpec(order="relu-before-addition")})
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ordered, original = (replace(of, run=each).network() for each in (run, of.run))
    assert ordered.state_dict().keys() == original.state_dict().keys()  # the same tensors, another function
    assert not torch.allclose(ordered(images), original(images))


def test_clean_batches_are_the_first_images_minus_the_mean_image():
    of = subject()
    x = torch.cat([x for x, _ in of.batches("test", 18)])
    expected = of.images.test.images[:18] / 255 - of.images.mean_image
    assert np.allclose(x.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert [len(x) for x, _ in of.batches("test", 18)] == [16, 2]
    assert sum(len(x) for x, _ in of.batches("test", 10_000)) == 20


def test_augmented_batches_are_those_that_the_run_trained_on():
    of = subject()
    batches = Batches(of.images, of.run.recipe, of.run.seed, torch.device("cpu"))
    batches.ready(0)
    first, labels, _ = batches.fill(torch.tensor(0))
    (x, y), (rest, _) = of.batches("train", 20, augmented=True)
    assert torch.equal(x, first)
    assert torch.equal(y, labels)
    assert len(rest) == 4


def test_a_split_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(UserError, match="no split 'val'"):
        list(subject().batches("val", 5))
    with pytest.raises(UserError, match="only the split train"):
        list(subject().batches("test", 5, augmented=True))


# A network whose blocks are exact identities


@pytest.mark.parametrize("name", ["lesion", "reorder"])
def test_on_exact_identities_neither_lesion_nor_reorder_changes_anything(name):
    of = subject(identities=True)
    measured = rows(name, of)
    if name == "lesion":  # the first blocks of stages 2 and 3 delete their branch too: it is zero
        assert measured["keeps_shape"].eq(0).sum() == 4
    else:
        assert measured["tau"].min() < 1
    assert len(measured) > 10
    for _, part in measured.groupby("statistics"):
        assert part["error"].nunique() == 1
        assert np.allclose(part["loss"], part["loss"].iloc[0], rtol=1e-6)


@pytest.mark.slow
def test_on_a_network_that_is_no_identity_both_change_the_loss():
    assert rows("lesion", subject()).groupby("statistics")["loss"].nunique().min() > 5
    assert rows("reorder", subject()).groupby("statistics")["loss"].nunique().min() > 1


# Against the same thing done by hand


@pytest.mark.parametrize(("number", "place"), [(2, "layer1"), (6, "layer3")])
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_a_block_deleted_by_hand_gives_the_error_and_loss_of_the_lesion(network, number, place):
    of = subject(network)
    net = of.network()

    def forward(x):
        out = net.relu(net.bn1(net.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            first, second = getattr(net, stage)
            out = first(out) if stage == place else second(first(out))
        return net.fc(net.pool(out).flatten(1))

    measured = rows("lesion", of)
    row = measured[(measured["block"] == number) & (measured["statistics"] == "running")].iloc[0]
    assert row["error"] == by_hand(of, forward)
    assert row["examples"] == 20
    with torch.no_grad():
        both = [(forward(x), y) for x, y in of.batches("test", 20)]
    loss = F.cross_entropy(torch.cat([a for a, _ in both]), torch.cat([b for _, b in both]))
    assert row["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_deleted_downsampling_block_leaves_its_zero_padded_shortcut():
    of = subject()
    net = of.network()
    ablation.delete(net, [3])
    x = torch.rand(2, 16, 8, 8)
    out = net.layer2[0](x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()


@pytest.mark.slow
def test_a_plain_block_that_changes_the_shape_is_named_and_not_deleted():
    measured = rows("lesion", subject("plain"))
    impossible = measured[measured["how"] == ablation.IMPOSSIBLE]
    assert sorted(set(impossible["block"])) == [3, 5]
    assert impossible["error"].isna().all()
    assert measured.loc[measured["how"] != ablation.IMPOSSIBLE, "error"].notna().all()
    with pytest.raises(ValueError, match=r"block 3 .* changes the shape"):
        ablation.delete(subject("plain").network(), [3])


@pytest.mark.slow
def test_a_matched_pair_loses_the_same_blocks_and_takes_the_same_orders():
    for name, column in (("lesion", "blocks"), ("reorder", "order")):
        plain, residual = (rows(name, subject(network, 20)) for network in ("plain", "residual"))
        assert list(plain[column]) == list(residual[column])
        assert plain[column].nunique() > 3


def test_random_sets_differ_from_draw_to_draw_and_with_the_seed_of_the_experiment():
    of = subject(depth=32)
    assert draws(of, SETTINGS, 3, 0).random() != draws(of, SETTINGS, 3, 1).random()
    other = Settings(examples=20, seed=1)
    assert draws(of, SETTINGS, 3, 0).random() != draws(of, other, 3, 0).random()


def test_reordering_puts_a_block_where_the_order_says():
    of = subject()
    net, before = of.network(), of.network()
    ablation.reorder(net, [2, 1, 3, 4, 5, 6])
    x = torch.rand(2, 16, 8, 8)
    assert torch.allclose(net.layer1(x), before.layer1[0](before.layer1[1](x)))


def test_three_blocks_in_turn_stand_where_the_order_says_and_not_the_other_way_round():
    of = subject(depth=20)
    net, before = of.network(), of.network()
    ablation.reorder(net, [2, 3, 1, *range(4, 10)])
    x, (first, second, third) = torch.rand(2, 16, 8, 8), before.layer1
    assert torch.allclose(net.layer1(x), first(third(second(x))))


def test_a_deleted_block_with_a_projection_leaves_what_the_relu_lets_through():
    of = subject(shortcut="C")
    net, before = of.network(), of.network()
    ablation.delete(net, [2])
    x = torch.rand(2, 16, 8, 8)
    projected = before.layer1[1].downsample(x)
    assert (projected < 0).any()
    assert torch.allclose(net.layer1[1](x), projected.clamp(min=0))


@pytest.mark.parametrize("order", [[3, 2, 1, 4, 5, 6], [1, 2, 4, 3, 5, 6], [1, 1, 3, 4, 5, 6]])
def test_an_order_that_shapes_forbid_is_refused(order):
    with pytest.raises(ValueError, match=r"expected each|does not fit"):
        ablation.reorder(subject().network(), order)


def test_kendalls_tau_of_known_orders():
    assert tau([1, 2, 3, 4]) == 1
    assert tau([4, 3, 2, 1]) == -1
    assert tau([2, 1, 3, 4]) == pytest.approx(1 - 2 * 1 / 6)  # one of six pairs turned round


def test_exchanges_stay_within_their_group():
    order = exchanged(range(1, 7), [[1, 2], [5, 6]], 7, np.random.default_rng(0))
    assert sorted(order) == [1, 2, 3, 4, 5, 6]
    assert order[2:4] == [3, 4]
    assert set(order[:2]) == {1, 2}
    assert exchanged([1, 2, 3], [], 5, np.random.default_rng(0)) == [1, 2, 3]


def test_depth_8_has_nothing_to_reorder():
    of = subject(depth=8)
    assert stages(ablation.keeping_shape(of.network())) == []
    assert list(experiment_named("reorder").parts(of, SETTINGS)) == ["swaps-0-0"]


# Batch-norm statistics


def test_reestimated_statistics_are_the_means_over_augmented_batches():
    of = subject()
    net = of.network()
    reestimate(of, 48, net)
    conv, sums = of.network().conv1, []
    for x, _ in of.batches("train", 48, augmented=True):
        with torch.no_grad():
            out = conv(x)
        sums.append((out.mean((0, 2, 3)), out.var((0, 2, 3), correction=1)))
    assert torch.allclose(net.bn1.running_mean, torch.stack([m for m, _ in sums]).mean(0), atol=1e-5)
    assert torch.allclose(net.bn1.running_var, torch.stack([v for _, v in sums]).mean(0), rtol=1e-4)
    assert not net.bn1.training
    assert net.bn1.momentum == 0.1


def test_a_network_without_batch_norm_has_running_rows_alone():
    found = list(error_rows(subject(norm="none"), SETTINGS))
    assert [row["statistics"] for row in found] == ["running"]
