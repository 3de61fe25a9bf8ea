"""A deepened network: the same function in evaluation mode, and what that does not promise."""

import pandas as pd
import pytest
import torch

from degradation import network
from degradation.errors import UserError
from degradation.experiments import construct
from degradation.experiments.construct import CONSTRUCT, deepened
from degradation.experiments.experiment import Settings
from tests.made_subject import subject

SETTINGS = Settings(examples=20)


def made(kind, shortcut=None, depth=8):
    one = subject(kind, depth, shortcut=shortcut)
    shallow = one.network()
    images = torch.cat([images for images, _ in one.batches("train", 32)])
    return shallow, deepened(shallow, one.run, images), images


@pytest.mark.parametrize(
    ("kind", "shortcut", "depth"),
    [("plain", "none", 8), *(("residual", option, 8) for option in "ABC"), ("residual", "C", 14)],
)
def test_the_deepened_network_has_the_shallow_ones_function_on_images_it_never_saw(kind, shortcut, depth):
    shallow, deep, _ = made(kind, shortcut, depth)
    torch.manual_seed(0)
    images = 3 * torch.randn(16, 3, 8, 8)
    assert len(deep.layout.layers) == len(shallow.layout.layers) + 12
    assert torch.allclose(deep(images), shallow(images), atol=1e-4)
    assert shallow(images).std() > 0.01


def test_in_training_mode_a_plain_block_is_no_identity_and_a_residual_one_is():
    for kind, equal in [("plain", False), ("residual", True)]:
        shallow, deep, images = made(kind)
        shallow.train()
        deep.train()
        assert torch.allclose(deep(images[:8]), shallow(images[:8]), atol=1e-4) == equal


def test_an_added_residual_block_can_learn():
    _, deep, images = made("residual")
    loss = deep.train()(images).square().sum()
    gradient = torch.autograd.grad(loss, deep.get_parameter("layer1.2.bn2.weight"))[0]
    assert gradient.norm() > 0


def test_a_network_without_batch_norm_is_refused():
    one = subject("plain")
    run = one.run.model_copy(update={"norm": "none"})
    with pytest.raises(UserError, match="norm batch"):
        deepened(network("plain", 8, norm="none"), run, torch.zeros(2, 3, 8, 8))


def test_the_frame_begins_at_equal_errors_and_both_are_trained_on(monkeypatch):
    monkeypatch.setattr(construct, "STEPS", 4)
    monkeypatch.setattr(construct, "ROWS", 2)
    one = subject("plain")
    data = pd.concat([CONSTRUCT.measure(one, SETTINGS, part) for part in CONSTRUCT.parts(one, SETTINGS)])
    assert list(data.columns) == list(CONSTRUCT.columns)
    assert sorted(data["step"].unique()) == [0, 2, 4]
    start = data[(data["step"] == 0) & (data["statistics"] == "running")].set_index("made")
    assert start.loc["deep", "error"] == start.loc["shallow", "error"]
    assert start.loc["deep", "loss"] == pytest.approx(start.loc["shallow", "loss"], abs=1e-4)
    assert start.loc["deep", "logit_difference"] < 1e-3
    assert start.loc["deep", "made_depth"] == start.loc["shallow", "made_depth"] + 12
    assert data.pivot_table(index=["made", "step"], columns="statistics", values="loss").nunique(axis=1).eq(2).all()
    for _, rows in data.groupby(["made", "statistics"]):
        assert rows["loss"].nunique() == 3
    assert (data["examples"] == 20).all()


@torch.no_grad()
def test_an_added_blocks_statistics_are_those_of_what_its_stage_hands_on():
    shallow, deep, images = made("plain", depth=14)
    shallow.eval()
    out = shallow.layer1(shallow.relu(shallow.bn1(shallow.conv1(images))))
    added = deep.layer1[2].bn1
    assert torch.allclose(added.running_mean, out.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(added.running_var, out.var((0, 2, 3), correction=0), rtol=1e-4)


@torch.no_grad()
def test_a_block_is_the_identity_even_where_its_input_hardly_varies():
    block = network("plain", 14).layer1[1].eval()
    mean, variance = torch.linspace(0.1, 2, 16), torch.linspace(1e-6, 1e-3, 16)
    construct._make_identity(block, (mean, variance), plain=True)
    images = torch.rand(4, 16, 8, 8)
    assert torch.allclose(block(images), images, atol=1e-5)


def test_the_continuation_is_the_runs_own_recipe_in_training_mode_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(construct, "STEPS", 2)
    monkeypatch.setattr(construct, "ROWS", 1)
    one = subject("plain")
    trained, hand = one.network(), one.network().train()
    assert list(construct._train(trained, one.run, one)) == [0, 2]
    optimizer = torch.optim.SGD(
        hand.parameters(), lr=construct.LEARNING_RATE, momentum=0.9, weight_decay=one.run.recipe.weight_decay
    )
    for images, labels in list(one.batches("train", 32, augmented=True))[:2]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(hand(images), labels).backward()
        optimizer.step()
    for (name, tensor), known in zip(trained.state_dict().items(), hand.state_dict().values(), strict=True):
        if name.endswith(("weight", "bias", "running_mean", "running_var")):
            assert torch.allclose(tensor, known, atol=1e-5), name
