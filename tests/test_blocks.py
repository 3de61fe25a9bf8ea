"""The block variants of He et al. 2016: each computes what its figure or equation says, and wrong ones fail."""

import contextlib
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from degradation.networks import network
from degradation.networks.variants import dropout_mask
from degradation.networks.weights import extra_weights, shared_weights, weight_hash
from degradation.probes import Taps
from degradation.runtime.progress import silent
from degradation.spec import BlockSpec, Measure, RunSpec, StudySpec, grid
from degradation.training.checkpoint import decode, encode
from degradation.training.trainer import RunCallbacks, Stopped, Training
from tests import made

ORDERS = ["original", "norm-after-addition", "relu-before-addition", "relu-only", "full"]
VARIANTS = [
    *({"order": order} for order in ORDERS),
    {"gate": "exclusive", "gate_bias": -6.0},
    {"gate": "shortcut-only"},
    {"branch_factor": 0.5, "shortcut_factor": 0.5},
    {"dropout": 0.5},
    {"start": "zero-gamma"},
    {"start": "skipinit", "order": "full"},
]
STEP = torch.tensor(5)


def built(kind="residual", depth=8, shortcut=None, norm="batch", seed=0, **block):
    found = network(kind, depth, shortcut, norm=norm, seed=seed, block=BlockSpec(**block))
    found.bind_step_counter(STEP)
    return found


def scattered(net):
    """Gammas, betas and biases far from where they start, so that one that is left out or misplaced is seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.uniform_(-1, 1, generator=generator)
    return net


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# The orders: Figure 4 of He et al. 2016, written down once more without a class


def normed(x, bn):
    return F.batch_norm(x, None, None, bn.weight, bn.bias, training=True)


def by_figure_4(order, block, x, shortcut):
    """The output of a block for the input x; ``shortcut`` is what is added, 0 in a plain block."""
    c1, c2 = (
        (lambda y: F.conv2d(y, block.conv1.weight, padding=1)),
        (lambda y: F.conv2d(y, block.conv2.weight, padding=1)),
    )
    b1, b2 = (lambda y: normed(y, block.bn1)), (lambda y: normed(y, block.bn2))
    match order:
        case "original":
            return F.relu(b2(c2(F.relu(b1(c1(x))))) + shortcut)
        case "norm-after-addition":
            return F.relu(b2(c2(F.relu(b1(c1(x)))) + shortcut))
        case "relu-before-addition":
            return F.relu(b2(c2(F.relu(b1(c1(x)))))) + shortcut
        case "relu-only":
            return b2(c2(F.relu(b1(c1(F.relu(x)))))) + shortcut
        case "full":
            return c2(F.relu(b2(c1(F.relu(b1(x)))))) + shortcut


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_block_computes_what_its_figure_shows(order, kind):
    block = scattered(built(kind, 14, order=order)).layer1[1]
    x = images(4, 16, 6, 6)
    expected = {o: by_figure_4(o, block, x, x if kind == "residual" else 0.0) for o in ORDERS}
    found = block(x)
    torch.testing.assert_close(found, expected[order])
    others = [other for other in ORDERS if not torch.allclose(found, expected[other], atol=1e-3)]
    twins = {"relu-before-addition", "norm-after-addition", "original"}  # equal where nothing is added
    alike = twins if kind == "plain" and order in twins else {order}
    assert set(others) == set(ORDERS) - alike


def test_pre_activation_has_its_first_activation_behind_the_first_layer_and_an_extra_one_at_the_end():
    # He et al. 2016, appendix: the activation behind conv1 stands before both paths of the first block.
    made_ = scattered(built(depth=8, order="full"))
    x = images(4, 3, 8, 8)
    with Taps(made_, ["layer1", "layer3", "layer1.0.conv1", "pool"]) as taps:
        made_(x)
    start = F.relu(normed(F.conv2d(x, made_.conv1.weight, padding=1), made_.bn1))
    block = made_.layer1[0]
    inner = F.relu(normed(F.conv2d(start, block.conv1.weight, padding=1), block.bn2))
    torch.testing.assert_close(taps.outputs["layer1"], start + F.conv2d(inner, block.conv2.weight, padding=1))
    end = F.relu(normed(taps.outputs["layer3"], made_.last[0]))
    torch.testing.assert_close(taps.outputs["pool"].flatten(1), end.mean((2, 3)))


def test_relu_only_ends_with_a_relu_and_the_other_orders_with_their_last_block():
    for order in ORDERS[:4]:
        net = built(order=order)
        with Taps(net, ["layer3", "pool"]) as taps:
            net(images(4, 3, 8, 8))
        last = taps.outputs["layer3"]
        assert (last.min() < 0) == (order == "relu-only")
        expected = F.relu(last) if order == "relu-only" else last
        torch.testing.assert_close(taps.outputs["pool"].flatten(1), expected.mean((2, 3)))


def test_a_projection_of_full_pre_activation_takes_the_pre_activated_input():
    block = scattered(built(shortcut="B", order="full")).layer2[0]
    x = images(2, 16, 6, 6)
    with Taps(block, ["downsample"]) as taps:
        block(x)
    projected = F.conv2d(F.relu(normed(x, block.bn1)), block.downsample[0].weight, stride=2)
    torch.testing.assert_close(taps.outputs["downsample"], normed(projected, block.downsample[1]))


@pytest.mark.parametrize("order", ORDERS)
def test_the_weights_of_a_pair_are_equal_in_every_order_and_as_many_as_in_the_original(order):
    pair = [shared_weights(built(kind, 14, order=order)) for kind in ("plain", "residual")]
    assert weight_hash(pair[0]) == weight_hash(pair[1])
    assert sum(weight.numel() for _, weight in pair[0]) == grid.parameters(14, "A")


# What is done to the shortcut


def block_with_branch(value, **block):
    """The first block in evaluation mode, its branch ``value`` everywhere, given an input of 0.25."""
    first = built(**block).layer1[0].eval()
    with torch.no_grad():
        first.bn2.weight.zero_()
        first.bn2.bias.fill_(value)
        if hasattr(first.transform, "conv"):
            first.transform.conv.weight.zero_()
        return first(torch.full((1, 16, 4, 4), 0.25)).unique().item()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({}, 0.125 + 0.25),
        ({"branch_factor": 0.5, "shortcut_factor": 0.5}, 0.0625 + 0.125),
        ({"shortcut_factor": 0.0}, 0.125),
        ({"branch_factor": 0.0}, 0.25),
        ({"gate": "exclusive"}, 0.0625 + 0.125),
        ({"gate": "exclusive", "gate_bias": -2.0}, 0.125 * sigmoid(-2) + 0.25 * sigmoid(2)),
        ({"gate": "shortcut-only"}, 0.125 + 0.125),
        ({"gate": "shortcut-only", "gate_bias": -6.0}, 0.125 + 0.25 * sigmoid(6)),
        ({"dropout": 0.5}, 0.125 + 0.25),  # evaluation drops nothing
    ],
)
def test_branch_and_shortcut_are_added_as_the_variant_has_it(block, expected):
    assert block_with_branch(0.125, **block) == pytest.approx(expected)


def test_a_shortcut_times_zero_leaves_a_plain_network():
    x = images(4, 3, 8, 8)
    assert torch.equal(built(shortcut_factor=0.0)(x), built("plain")(x))


def test_a_gate_is_a_1x1_convolution_of_the_blocks_input_with_its_stride():
    block = built(gate="exclusive", gate_bias=-1.0).layer2[0].eval()
    x = images(2, 16, 6, 6)
    with torch.no_grad(), Taps(block, ["bn2", "downsample"]) as taps:
        found = block(x)
    gate = torch.sigmoid(F.conv2d(x, block.transform.conv.weight, block.transform.conv.bias, stride=2))
    assert gate.std() > 0.01
    torch.testing.assert_close(found, F.relu(gate * taps.outputs["bn2"] + (1 - gate) * taps.outputs["downsample"]))
    assert torch.equal(block.transform.conv.bias, torch.full((32,), -1.0))


def test_the_weights_of_a_gate_are_listed_as_extra():
    net = built(gate="shortcut-only")
    assert len(extra_weights(net)) == 2 * 3
    assert weight_hash(shared_weights(net)) == weight_hash(shared_weights(built("plain")))


# Dropout without a state


def mask(seed=0, block=0, step=5, share=0.5):
    """The factor of every value of a shortcut of ones, in training mode."""
    net = built(depth=14, dropout=share, seed=seed)
    net.bind_step_counter(torch.tensor(step))
    transform = net.blocks[block].transform
    return transform(None, torch.zeros(2, 16, 32, 32), torch.ones(2, 16, 32, 32))[1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    factors = mask(share=share)
    assert (factors == 0).double().mean().item() == pytest.approx(share, abs=0.01)
    assert factors.max().item() == pytest.approx(1 / (1 - share))
    assert factors.mean().item() == pytest.approx(1, rel=0.05)


def test_a_mask_is_a_function_of_seed_block_and_step_and_those_of_others_are_independent():
    first, others = mask(), [mask(seed=1), mask(block=1), mask(step=6), mask(step=5 + 2**40)]
    assert torch.equal(first, mask())
    for other in others:
        assert ((first > 0) == (other > 0)).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_neighbouring_places_are_dropped_independently():
    dropped = (mask() == 0).double()
    for shifted in (dropped.roll(1, 3), dropped.roll(1, 2), dropped.roll(1, 1), dropped.roll(1, 0)):
        assert (dropped * shifted).mean().item() == pytest.approx(0.25, abs=0.01)


def test_the_generator_of_the_masks_is_splitmix64():
    def mixed(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    begin = mixed((7 * 0x9E3779B97F4A7C15 + 12345) % 2**64)
    drawn = [mixed((begin + place * 0x9E3779B97F4A7C15) % 2**64) for place in range(1, 65)]
    expected = [float((number >> 40) % 2**24 >= 0.3 * 2**24) for number in drawn]
    assert dropout_mask(torch.empty(64), torch.tensor(12345), torch.tensor(7), 0.3).tolist() == expected


def test_dropout_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(0)
    before, state = mask(), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(before, mask())
    torch.manual_seed(0)
    mask()
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_without_a_step_says_what_to_do():
    net = network("residual", 8, block=BlockSpec(dropout=0.5))
    with pytest.raises(RuntimeError, match=r"network.bind_step_counter\(step\)"):
        net(images(2, 3, 8, 8))
    net.eval()(images(2, 3, 8, 8))


def run_of(measure=None, steps=6, **block) -> RunSpec:
    return made.run_spec(steps=steps, measure=measure or Measure()).model_copy(update={"block": BlockSpec(**block)})


def training_of(run):
    return Training(run, made.images(), made.CPU, silent)


def trained(training, until=None):
    stop = (lambda: training.position == until) if until is not None else (lambda: False)
    host = RunCallbacks(should_stop=stop, save=lambda: None, keep_snapshot=lambda _step: None, save_seconds=1e9)
    with contextlib.suppress(Stopped):
        training.train(host)
    return training


@pytest.mark.parametrize("block", [{"dropout": 0.5}, {"gate": "exclusive"}, {"order": "full"}])
def test_a_run_that_continues_from_its_checkpoint_ends_with_the_same_bits(block):
    run = run_of(**block)
    whole, stopped, again = trained(training_of(run)), trained(training_of(run), until=3), training_of(run)
    again.resume(decode(encode(stopped.checkpoint())))
    trained(again)
    assert again.weights() == whole.weights()
    assert all(again.frames()[name].equals(frame) for name, frame in whole.frames().items())


def test_a_measured_step_with_dropout_leaves_the_same_bits_as_one_without_probes():
    every, never = (
        trained(training_of(run_of(Measure(**m), dropout=0.5))) for m in ({"probe_every": 1}, {"probes": ()})
    )
    ends = [training.state.network.state_dict() for training in (every, never)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_every_step_of_a_run_drops_other_places():
    training = training_of(run_of(dropout=0.5, steps=3))
    seen, transform, ones = [], training.state.network.blocks[0].transform, torch.ones(2, 16, 8, 8)
    for step in range(3):
        seen.append(transform(None, ones, ones)[1])
        training.batches.ready(step)
        training.stepper.train()
    assert all(not torch.equal(one, other) for one, other in [(seen[0], seen[1]), (seen[1], seen[2])])


@pytest.mark.slow
def test_dropout_in_blocks_of_one_shape_is_compiled_once():
    def blocks_compiled(depth):
        torch._dynamo.reset()
        graphs, net = [], built(depth=depth, dropout=0.5)
        together = torch.compile(
            type(net.blocks[0]).forward, backend=lambda graph, _x: graphs.append(1) or graph.forward
        )
        for block in net.layer1:
            together(block, torch.ones(2, 16, 4, 4))
        return len(graphs)

    assert blocks_compiled(8) == blocks_compiled(32) == 1


# How a branch begins


@pytest.mark.parametrize(
    ("start", "norm"), [("zero-gamma", "batch"), ("skipinit", "batch"), ("skipinit", "none"), ("fixup", "none")]
)
def test_a_branch_that_begins_at_zero_leaves_the_shortcut_and_learns(start, norm):
    net = built(depth=14, norm=norm, start=start)
    x = images(4, 16, 8, 8)
    assert torch.equal(net.layer1[0](x), F.relu(x))
    before = F.cross_entropy(net(images(4, 3, 8, 8)), torch.arange(4))
    before.backward()
    with torch.no_grad():
        for weight in net.parameters():
            weight -= 0.1 * weight.grad
    assert not torch.allclose(net.layer1[0](x), F.relu(x))


def test_fixup_divides_the_first_convolution_by_the_root_of_the_blocks():
    first, drawn = built(depth=14, norm="none", start="fixup"), built(depth=14, norm="none")
    torch.testing.assert_close(first.layer2[1].conv1.weight, drawn.layer2[1].conv1.weight / math.sqrt(6))
    assert [first.layer1[0].scale.factor.item(), built(start="skipinit").layer1[0].scale.factor.item()] == [1.0, 0.0]


# Counts, layout, shapes


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("block", VARIANTS, ids=str)
def test_counts_are_the_closed_forms(block, shortcut):
    net, spec, counted = built(depth=14, shortcut=shortcut, **block), BlockSpec(**block), []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, _i, out: counted.append(out[0].numel() * m.weight[0].numel()))
    net(torch.zeros(2, 3, 32, 32))
    assert sum(weight.numel() for weight in net.parameters()) == grid.parameters(14, shortcut, block=spec)
    assert sum(counted) == grid.multiply_adds(14, shortcut, block=spec)


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("block", [*VARIANTS, {"start": "fixup"}, {"start": "skipinit"}], ids=str)
def test_branch_and_shortcut_of_the_layout_are_what_is_added(block, norm, shortcut):
    try:
        net = built(depth=14, shortcut=shortcut, norm=norm, **block)
    except ValueError:
        pytest.skip("cannot be built so")
    behind = {"norm-after-addition": lambda b, y: F.relu(b.bn2(y)), "original": lambda _b, y: F.relu(y)}
    names = [name for b in net.layout.blocks for name in (b.name, b.branch, b.shortcut)]
    with torch.no_grad(), Taps(net, names) as taps:
        net(images(4, 3, 16, 16))
    for b in net.layout.blocks:
        end = behind.get(block.get("order", "original"), lambda _b, y: y)
        total = taps.outputs[b.branch] + taps.outputs[b.shortcut]
        torch.testing.assert_close(taps.outputs[b.name], end(net.get_submodule(b.name), total))


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize(
    ("order", "second"),
    [("norm-after-addition", ("bn1", "conv2")), ("full", ("bn2", "conv2")), ("relu-only", ("bn1", "bn2"))],
)
def test_a_response_is_the_last_normalized_else_convolved_value_before_addition_or_nonlinearity(order, second, kind):
    layers = {layer.name: layer.response for layer in built(kind, order=order).layout.layers}
    assert (layers["layer2.0.conv1"], layers["layer2.0.conv2"]) == tuple(f"layer2.0.{name}" for name in second)
    assert layers["conv1"] == "bn1"


@pytest.mark.parametrize("block", VARIANTS, ids=str)
def test_every_probe_measures_every_variant(block):
    frames = trained(training_of(run_of(Measure(probe_every=1), steps=2, **block))).frames()
    assert len(frames["branches"]) == 3 * 3
    assert len(frames["responses"]) == 3 * 7
    assert frames["branches"][["branch_std", "shortcut_std"]].notna().all(axis=None)
    assert frames["gradients"]["response_grad_norm"].notna().sum() == 3 * 7


def test_shapes_that_do_not_fit_are_named_with_their_block():
    net = built(depth=14)
    net.layer2[0].downsample = nn.Identity()
    with pytest.raises(
        ValueError, match=r"block layer2.0: the branch is \(2, 32, 4, 4\) and the shortcut \(2, 16, 8, 8\)"
    ):
        net(images(2, 3, 8, 8))


def test_shapes_that_would_broadcast_are_refused_as_well():
    net = built(depth=14)
    net.layer1[1].downsample = nn.AdaptiveAvgPool2d(1)
    with pytest.raises(ValueError, match=r"layer1.1: .* \(2, 16, 8, 8\) and the shortcut \(2, 16, 1, 1\)"):
        net(images(2, 3, 8, 8))


# What is refused, and what has no match


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": {"gate_bias": -6}}, "gate_bias -6.0 is a gate's"),
        ({"block": {"gate": "exclusive", "dropout": 0.5}}, "one variant of the shortcut, not gate and dropout"),
        ({"block": {"order": "full"}, "norm": "none"}, "order full places a norm"),
        ({"block": {"start": "zero-gamma"}, "norm": "none"}, "needs a branch that ends in a norm"),
        ({"block": {"start": "zero-gamma", "order": "full"}}, "needs a branch that ends in a norm"),
        ({"block": {"start": "fixup"}}, "take norm none"),
        ({"block": {"dropout": 0.5}, "networks": ("plain",)}, "dropout is a shortcut's: networks must have residual"),
        ({"block": {"dropout": 1.0}}, "less than 1"),
        ({"block": {"order": "reversed"}}, "original"),
        ({"arms": {"a": {}, "b": {"block": {"gate": "both"}}}}, "exclusive"),
        ({"arms": {"a": {}, "b": {"block": {"order": "original"}}}}, "arms a and b are the same run"),
    ],
)
def test_an_impossible_block_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        StudySpec.model_validate(fields)


def test_a_plain_run_has_no_variant_of_the_shortcut():
    with pytest.raises(ValueError, match="a plain network has no shortcut"):
        built("plain", gate="exclusive")
    with pytest.raises(ValidationError, match=r"leave out block.dropout"):
        RunSpec.model_validate(made.run_spec("plain").model_dump() | {"block": {"dropout": 0.5}})


def test_orders_are_matched_and_variants_of_the_shortcut_stand_alone():
    arms = {"original": {}, "full": {"block.order": "full"}, "gated": {"block.gate": "exclusive"}}
    study = made.study_spec(arms=arms)
    planned = grid.arms(study)
    assert [(arm, run.network) for run, arm in planned.items()] == [
        ("original", "plain"), ("original", "residual"), ("full", "plain"), ("full", "residual"), ("gated", "residual"),
    ]  # fmt: skip
    assert {planned[pair.residual] for pair in grid.pairs(planned)} == {"original", "full"}
    assert any("gated: not the paper's networks: gate exclusive" in label for label in study.labels)
