"""The networks against the published counts and against wrong forward passes that have the right counts."""

import pytest
import torch

from degradation.networks import for_run, network
from degradation.networks.weights import extra_weights, shared_weights, weight_hash
from degradation.spec import BlockSpec, StudySpec, Synthetic, grid

# FACTS: He et al. 2015, Table 6, made exact; multiply-adds of convolutions and linear layer.
PUBLISHED = {20: (269_722, 40_551_040), 32: (464_154, 68_862_592), 44: (658_586, 97_174_144),
             56: (853_018, 125_485_696), 110: (1_727_962, 252_887_680), 1202: (19_421_274, 2_829_238_912)}  # fmt: skip
KINDS = [("plain", "none"), ("residual", "A"), ("residual", "B"), ("residual", "C")]


@pytest.mark.parametrize("depth", PUBLISHED)
def test_closed_forms_are_the_published_counts(depth):
    assert (grid.parameters(depth, "A"), grid.multiply_adds(depth, "A")) == PUBLISHED[depth]


@pytest.mark.parametrize(("kind", "shortcut"), KINDS)
@pytest.mark.parametrize("depth", [8, 20, 56])
@pytest.mark.parametrize(("norm", "width"), [("batch", 1), ("none", 1), ("batch", 3), ("none", 2)])
def test_parameters_of_the_network_are_the_closed_form(kind, shortcut, depth, norm, width):
    made = network(kind, depth, shortcut, seed=None, norm=norm, width=width)
    counted = sum(weight.numel() for weight in made.parameters())
    assert counted == grid.parameters(depth, shortcut, norm=norm, width=width)


@pytest.mark.parametrize(("kind", "shortcut"), KINDS)
@pytest.mark.parametrize(("norm", "width"), [("batch", 1), ("none", 1), ("batch", 3), ("none", 2)])
def test_multiply_adds_counted_by_hooks_are_the_closed_form(kind, shortcut, norm, width):
    made, counted = network(kind, 14, shortcut, norm=norm, width=width), []

    def count(module, _inputs, output):
        counted.append(output[0].numel() * module.weight[0].numel())

    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    made(torch.zeros(1, 3, 32, 32))
    assert sum(counted) == grid.multiply_adds(14, shortcut, width=width)


def test_the_counts_of_a_run_are_those_of_its_network():
    study = StudySpec(depths=(8,), shortcuts=("B",), norm="none", width=2, dataset=Synthetic(size=16))
    for run in grid.runs(study):
        made = for_run(run)
        assert sum(weight.numel() for weight in made.parameters()) == grid.parameters_of(run)
        assert grid.multiply_adds_of(run) == grid.multiply_adds(8, run.shortcut, 16, width=2)
        assert made.layout.layers[0].response == "conv1"
        assert made.conv1.out_channels == 32


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"norm": "layer"}, "the norm is one of batch, none, not 'layer'"),
        ({"initialization": "xavier"}, "the initialization is one of"),
        ({"depth": "20"}, "the depth is a whole number, not '20'"),
        ({"depth": 8.0}, "the depth is a whole number, not 8.0"),
        ({"width": 0}, "the width is a whole number of at least 1, not 0"),
        ({"width": 1.5}, "the width is a whole number of at least 1, not 1.5"),
        ({"classes": 0}, "the number of classes is a whole number of at least 1, not 0"),
        ({"family": "imagenet", "depth": 18, "classes": 0}, "the number of classes is a whole number of at least 1"),
        ({"seed": "a"}, "the seed is a whole number of at least 0, not 'a'"),
        ({"seed": -1}, "the seed is a whole number of at least 0, not -1"),
        ({"block": "full"}, "the block is a BlockSpec or a mapping such as {'order': 'full'}, not 'full'"),
        ({"block": {"order": "ful"}}, "block.order: expected original, .*, not 'ful'; did you mean full?"),
        ({"block": {"ordre": "full"}}, "block.ordre is not a field of block; .*; did you mean order?"),
        ({"block": {"start": "fixup"}}, "start fixup replaces the norm: take norm none"),
    ],
)
def test_a_field_that_cannot_be_is_refused_in_one_line(field, message):
    with pytest.raises(ValueError, match=message) as refused:
        network("residual", **{"depth": 8} | field)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("family", "depth"), [("cifar", 8), ("imagenet", 18)])
def test_a_field_that_the_family_does_not_have_is_named_with_those_that_it_has(family, depth):
    with pytest.raises(TypeError, match=f"no field widht; those of family {family} are .*classes"):
        network("residual", depth, family=family, widht=2)


def test_blocks_are_a_spec_or_a_mapping_of_its_fields():
    for norm, fields in (("batch", {"order": "full"}), ("none", {"start": "fixup"})):
        asked, meant = (network("residual", 8, norm=norm, block=block) for block in (fields, BlockSpec(**fields)))
        assert asked.spec == meant.spec == BlockSpec(**fields)
        assert weight_hash(asked.named_parameters()) == weight_hash(meant.named_parameters())


@pytest.mark.parametrize(("family", "depth"), [("cifar", 8), ("imagenet", 18)])
def test_the_classes_are_the_logits(family, depth):
    assert network("plain", depth, family=family, classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize(("family", "depth"), [("cifar", 8), ("imagenet", 18)])
def test_making_a_network_leaves_the_global_generator_as_it_was(family, depth, seed):
    before = torch.get_rng_state()
    network("residual", depth, family=family, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_depth_of_1202_can_be_made():
    assert len(network("residual", 1202, seed=None).layout.layers) == 1202


@pytest.mark.parametrize("depth", [21, 7, 2, 0, -4])
def test_an_invalid_depth_names_the_nearest_valid_ones(depth):
    with pytest.raises(ValueError, match=r"nearest valid depth(s are 20 and 26| is 8)"):
        network("plain", depth)


@pytest.mark.parametrize(
    ("kind", "shortcut"), [("Plain", None), ("residual", "Z"), ("plain", "A"), ("residual", "none")]
)
def test_an_unknown_kind_or_shortcut_is_refused_and_nothing_else_is_built(kind, shortcut):
    with pytest.raises(ValueError, match=r"plain|shortcut"):
        network(kind, 8, shortcut)


def branch_held_at(kind, shortcut, value):
    """The first block's output where its branch is ``value`` everywhere, for an input of 0.25."""
    block = network(kind, 8, shortcut).layer1[0].eval()
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.fill_(value)
        return block(torch.full((1, 16, 4, 4), 0.25))


def test_only_a_shortcut_lifts_the_output_of_a_block_whose_branch_is_negative():
    assert branch_held_at("plain", "none", -0.125).abs().max() == 0
    assert torch.equal(branch_held_at("residual", "A", -0.125), torch.full((1, 16, 4, 4), 0.125))


def test_the_second_relu_comes_after_the_addition():
    # A ReLU on the branch alone would leave 0.25, the shortcut.
    assert branch_held_at("residual", "A", -0.5).abs().max() == 0


def test_option_a_takes_every_second_pixel_and_pads_channels_on_both_sides_alike():
    x = torch.arange(2 * 16 * 4 * 4.0).reshape(2, 16, 4, 4)
    y = network("residual", 8, "A").layer2[0].downsample(x)
    assert y.shape == (2, 32, 2, 2)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].abs().sum() == y[:, 24:].abs().sum() == 0


def test_option_b_projects_where_shapes_change_and_option_c_everywhere():
    assert len(extra_weights(network("residual", 20, "B"))) == 2 * 3
    assert len(extra_weights(network("residual", 20, "C"))) == 9 * 3


def test_module_names_are_those_of_the_public_implementations():
    names = [name for name, _ in network("residual", 8, "A").named_parameters() if "bn" not in name]
    blocks = [f"layer{stage}.0.conv{half}.weight" for stage in (1, 2, 3) for half in (1, 2)]
    assert names == ["conv1.weight", *blocks, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(("kind", "shortcut"), KINDS)
def test_shared_weights_do_not_depend_on_the_kind(kind, shortcut):
    assert weight_hash(shared_weights(network(kind, 20, shortcut, seed=3))) == weight_hash(
        shared_weights(network("plain", 20, seed=3))
    )


def test_the_weight_hash_sees_another_seed_and_one_changed_value():
    made = network("plain", 8, seed=0)
    before = weight_hash(shared_weights(made))
    assert before != weight_hash(shared_weights(network("plain", 8, seed=1)))
    with torch.no_grad():
        made.fc.bias[3] += 1e-6
    assert before != weight_hash(shared_weights(made))


def test_initial_weights_are_pinned():
    # A changed draw would silently break the comparison of new runs with those on disk.
    assert weight_hash(shared_weights(network("plain", 8, seed=0))) == "b66b80aacdabe43c"


def test_convolutions_have_the_variance_of_he_fan_out():
    weight = network("plain", 110).layer3[4].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert abs(weight.mean().item()) < 0.002


def test_the_layout_names_every_weighted_layer_once_in_forward_order():
    made, seen = network("residual", 14, "B"), []
    for layer in made.layout.layers:
        made.get_submodule(layer.name).register_forward_hook(lambda *_args, name=layer.name: seen.append(name))
    made(torch.zeros(2, 3, 32, 32))
    assert seen == [layer.name for layer in made.layout.layers]
    assert [layer.number for layer in made.layout.layers] == list(range(1, 15))
    assert [layer.stage for layer in made.layout.layers] == [1] * 5 + [2] * 4 + [3] * 4 + [4]


def test_at_initialization_every_response_has_standard_deviation_one():
    # Gamma is 1 and beta 0, so batch norm leaves nothing else (closed form of the frames' std).
    made, stds = network("plain", 20).train(), []
    for layer in made.layout.responding:
        made.get_submodule(layer.response).register_forward_hook(lambda _m, _i, out: stds.append(out.std().item()))
    made(torch.rand(32, 3, 32, 32))
    assert stds == pytest.approx([1.0] * 19, abs=0.01)
