"""The ImageNet family against Table 1, published counts, and torchvision's own modules."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from degradation.networks import network
from degradation.networks.weights import extra_weights, shared_weights, weight_hash
from degradation.probes import PROBE_REGISTRY, Measurement, Readings, Taps

# FACTS, made exact: parameters of the common implementation; of the paper's multiply-adds (stride on the 1x1
# convolution) the billions that Table 1 prints.
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
PAPERS_BILLIONS = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}


def imagenet(kind, depth, shortcut=None, **fields):
    return network(kind, depth, shortcut, family="imagenet", **{"seed": None} | fields)


def scattered(net):
    """Batch norms far from where they start, running statistics too, so that one that is misplaced is seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.8, 1.5, generator=generator)
    return net.eval()


def images(size=64):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def size_of(net):
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("depth", PARAMETERS)
def test_parameters_are_the_published_counts(depth):
    with torch.device("meta"):
        assert size_of(imagenet("residual", depth)) == PARAMETERS[depth]


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_plain_network_has_the_parameters_of_option_a(depth):
    with torch.device("meta"):
        plain, a, b = (imagenet(kind, depth, s) for kind, s in [("plain", None), ("residual", "A"), ("residual", "B")])
    assert size_of(plain) == size_of(a) < size_of(b)
    assert not extra_weights(a)
    # One projection and its batch norm in each stage that changes shapes.
    assert len(extra_weights(b)) == 3 * (4 if depth == 50 else 3)


@pytest.mark.slow
@pytest.mark.parametrize("depth", PAPERS_BILLIONS)
def test_multiply_adds_with_the_papers_stride_are_those_of_table_1(depth):
    assert multiply_adds(depth, "1x1") / 1e9 == pytest.approx(PAPERS_BILLIONS[depth], abs=0.09)


def test_the_common_place_of_the_stride_costs_a_twelfth_more():
    assert multiply_adds(50, "3x3") == 4_089_184_256
    assert multiply_adds(50, "1x1") == 3_857_973_248


def multiply_adds(depth, stride_on):
    counted = []
    with torch.device("meta"):
        net = imagenet("residual", depth, stride_on=stride_on)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda m, _i, out: counted.append(out[0].numel() * m.weight[0].numel()))
        net(torch.zeros(1, 3, 224, 224))
    return sum(counted)


@pytest.mark.slow
@pytest.mark.parametrize("depth", PARAMETERS)
def test_state_dicts_are_interchangeable_with_torchvisions(depth):
    theirs = scattered(getattr(torchvision.models, f"resnet{depth}")())
    ours = imagenet("residual", depth).eval()
    ours.load_state_dict(theirs.state_dict())
    x = images()
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)
        ours.fc.bias += 1
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(theirs(x), expected + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_papers_stride_is_that_of_torchvisions_modules_with_their_strides_moved():
    theirs = scattered(torchvision.models.resnet50())
    ours = imagenet("residual", 50, stride_on="1x1").eval()
    ours.load_state_dict(theirs.state_dict())
    before = theirs(images())
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    torch.testing.assert_close(ours(images()), theirs(images()), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours(images()), before, atol=1e-2)


def test_plain_networks_end_where_those_of_a_study_end():
    with pytest.raises(ValueError, match="a plain network of the ImageNet family has 18, 34, 50 layers, not 101"):
        imagenet("plain", 101)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_plain_network_is_torchvisions_with_every_shortcut_cut(depth):
    theirs, ours = scattered(getattr(torchvision.models, f"resnet{depth}")()), imagenet("plain", depth).eval()
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if "downsample" not in name})

    def cut(block):
        def forward(x):
            out = F.relu(block.bn1(block.conv1(x)))
            out = block.bn2(block.conv2(out))
            return F.relu(block.bn3(block.conv3(F.relu(out))) if depth == 50 else out)

        return forward

    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        for block in stage:
            block.forward = cut(block)
    with torch.no_grad():
        torch.testing.assert_close(ours(images()), theirs(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("depth", "last"), [(34, "bn2"), (50, "bn3")])
@pytest.mark.parametrize(("kind", "expected"), [("plain", 0.0), ("residual", 0.125)])
def test_only_a_shortcut_lifts_the_output_of_a_block_whose_branch_is_negative(kind, expected, depth, last):
    block = imagenet(kind, depth).layer1[1].eval()
    with torch.no_grad():
        nn.init.zeros_(getattr(block, last).weight)
        nn.init.constant_(getattr(block, last).bias, -0.125)
        channels = block.conv1.in_channels
        assert block(torch.full((1, channels, 4, 4), 0.25)).unique().item() == expected


def test_option_a_pads_channels_on_both_sides_and_strides_only_where_the_block_does():
    net = imagenet("residual", 50, "A")
    x = torch.arange(64 * 4 * 4.0).reshape(1, 64, 4, 4)
    y = net.layer1[0].downsample(x)
    assert y.shape == (1, 256, 4, 4)
    assert torch.equal(y[:, 96:160], x)
    assert y[:, :96].abs().sum() == y[:, 160:].abs().sum() == 0
    z = net.layer2[0].downsample(y)
    assert torch.equal(z[:, 128:384], y[:, :, ::2, ::2])


def test_option_c_projects_in_every_block():
    assert len(extra_weights(imagenet("residual", 34, "C"))) == 3 * 16


@pytest.mark.parametrize("depth", PARAMETERS)
def test_the_layer_table_is_table_1(depth):
    with torch.device("meta"):
        net, sizes = imagenet("residual", depth), []
        for layer in net.layout.responding:
            net.get_submodule(layer.response).register_forward_hook(
                lambda _m, _i, out, layer=layer: sizes.append((layer.number, layer.stage, out.shape[-1]))
            )
        net(torch.zeros(1, 3, 224, 224))
    assert [number for number, _, _ in sizes] == list(range(1, depth))
    maps = {1: 112, 2: 56, 3: 28, 4: 14, 5: 7}
    halving = {layer.number for layer in net.layout.layers if layer.name.endswith(".0.conv1")}  # 1x1 before the stride
    assert all(size == maps[stage] or (number in halving and depth >= 50) for number, stage, size in sizes)
    assert [layer.number for layer in net.layout.layers] == list(range(1, depth + 1))
    assert net.layout.layers[-1].stage == 6


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_a_matched_pair_has_the_same_initial_weights(depth):
    hashes = {
        weight_hash(shared_weights(imagenet(kind, depth, s, seed=3)))
        for kind, s in [("plain", None), ("residual", "B")]
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(("kind", "depth"), [("plain", 18), ("residual", 18), ("residual", 50)])
def test_the_probes_measure_it(kind, depth):
    net, probes = imagenet(kind, depth, seed=0), tuple(PROBE_REGISTRY.values())
    names = list(dict.fromkeys(name for probe in probes for name in probe.needs(net.layout)))
    weights = [net.get_submodule(layer.name).weight for layer in net.layout.layers]
    with Taps(net, names) as taps:
        loss = F.cross_entropy(net(images(32)), torch.tensor([1, 2]))
    found = torch.autograd.grad(loss, [*weights, *taps.outputs.values()])
    seen = Measurement(
        layout=net.layout,
        outputs=taps.outputs,
        normalized=taps.normalized,
        output_gradients=dict(zip(taps.outputs, found[len(weights) :], strict=True)),
        weights=tuple(weights),
        weight_gradients=found[: len(weights)],
        updates=None,
    )
    readings = Readings(probes, net.layout)
    with torch.no_grad():
        readings.add(0, readings.read(probes, seen))
    frames = readings.frames({"split": "train_batch", "statistics": "batch", "examples": 2})
    blocks = {18: 8, 50: 16}[depth]
    lengths = [len(frames[name]) for name in ("gradients", "responses", "branches")]
    assert lengths == [depth, depth - 1, blocks if kind == "residual" else 0]
    ends = frames["branches"].set_index("name").branch_std if kind == "residual" else {}
    for name, std in ends.items():
        block = next(block for block in net.layout.blocks if block.name == name)
        assert std == pytest.approx(taps.outputs[block.branch].std(correction=0).item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("residual", 20), "depths are 18, 34, 50, 101, 152"),
        (("plain", 18, "A"), "a plain network has shortcut 'none'"),
        (("residual", 18, "none"), "a plain network has shortcut 'none'"),
    ],
)
def test_what_the_family_does_not_have_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        imagenet(*arguments)


@pytest.mark.parametrize("fields", [{"family": "mnist"}, {"family": "imagenet", "stride_on": "2x2"}])
def test_an_unknown_family_or_place_of_the_stride_is_refused(fields):
    with pytest.raises(ValueError, match=r"is one of (cifar, imagenet|3x3, 1x1), not '(mnist|2x2)'"):
        network("residual", 50, **fields)


def test_shapes_that_do_not_fit_are_named_with_their_block():
    net = imagenet("residual", 50)
    net.layer3[0].downsample = nn.Identity()
    with pytest.raises(ValueError, match=r"block layer3.0: the branch is \(2, 1024, 4, 4\) and the shortcut \(2, 512"):
        net(images())
