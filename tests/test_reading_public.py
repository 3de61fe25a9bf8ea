"""Networks that others wrote, under any names: what is read of their files computes what they compute."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from degradation.errors import UserError
from degradation.networks.reading import network_of
from degradation.networks.weight_files import read_weights

WIDTHS = (16, 32, 64)


class Padded(nn.Module):
    """Option A as a module without parameters."""

    def __init__(self, inputs, filters):
        super().__init__()
        self.pad = (filters - inputs) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Sum(nn.Module):
    """ReLU(branch(x) + skip(x)); without a skip, ReLU(branch(x))."""

    def __init__(self, branch, skip):
        super().__init__()
        self.branch = branch
        if skip is not None:
            self.skip = skip

    def forward(self, x):
        out = self.branch(x)
        return F.relu(out + self.skip(x) if hasattr(self, "skip") else out)


def shapes(n):
    """Inputs, filters and stride of each block."""
    before = 16
    for filters in WIDTHS:
        for _ in range(n):
            yield before, filters, 1 + (before != filters)
            before = filters


def skip_of(option, inputs, filters, stride, bias=False):
    if option == "plain":
        return None
    if option == "C" or (option == "B" and stride == 2):
        return nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=bias), nn.BatchNorm2d(filters))
    return Padded(inputs, filters) if stride == 2 else nn.Sequential()


def sequential(option, n=1, bias=False):
    """All in nn.Sequential: names such as 0.weight and 3.branch.0.weight."""
    stem = (nn.Conv2d(3, 16, 3, padding=1, bias=bias), nn.BatchNorm2d(16), nn.ReLU())
    blocks = []
    for inputs, filters, stride in shapes(n):
        branch = nn.Sequential(
            nn.Conv2d(inputs, filters, 3, stride, 1, bias=bias),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=bias),
            nn.BatchNorm2d(filters),
        )
        blocks.append(Sum(branch, skip_of(option, inputs, filters, stride, bias)))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Renamed(nn.Module):
    """A network whose modules have the names given, registered in the order given: see ``STYLES``."""

    def __init__(self, option, style, n=1):
        super().__init__()
        self.place, order = style
        made = {"stem.conv": nn.Conv2d(3, 16, 3, padding=1, bias=False), "stem.norm": nn.BatchNorm2d(16)}
        self.steps = list(shapes(n))
        for number, (inputs, filters, stride) in enumerate(self.steps):
            parts = {
                "conv1": nn.Conv2d(inputs, filters, 3, stride, 1, bias=False),
                "norm1": nn.BatchNorm2d(filters),
                "conv2": nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                "norm2": nn.BatchNorm2d(filters),
            }
            if option == "C" or (option == "B" and stride == 2):
                parts["conv3"] = nn.Conv2d(inputs, filters, 1, stride, bias=False)
                parts["norm3"] = nn.BatchNorm2d(filters)
            made |= {f"{number}.{part}": parts[part] for part in order.split() if part in parts}
        made["head"] = nn.Linear(64, 10)
        self.names = {}
        for key, module in made.items():
            self.names[key] = self.name_of(key, n)
            holder = self
            *path, last = self.names[key].split(".")
            for piece in path:
                if piece not in holder._modules:
                    holder.add_module(piece, nn.Module())
                holder = holder._modules[piece]
            holder.add_module(last, module)

    def name_of(self, key, n):
        number, _, part = key.partition(".")
        if not number.isdecimal():
            return self.place[key]
        return self.place["block"].format(stage=int(number) // n + 1, index=int(number) % n, part=self.place[part])

    def at(self, key):
        return self.get_submodule(self.names[key])

    def forward(self, x):
        x = F.relu(self.at("stem.norm")(self.at("stem.conv")(x)))
        for number, (inputs, filters, stride) in enumerate(self.steps):
            out = F.relu(self.at(f"{number}.norm1")(self.at(f"{number}.conv1")(x)))
            out = self.at(f"{number}.norm2")(self.at(f"{number}.conv2")(out))
            if f"{number}.conv3" in self.names:
                x = self.at(f"{number}.norm3")(self.at(f"{number}.conv3")(x))
            elif stride == 2:
                x = Padded(inputs, filters)(x)
            x = F.relu(out + x)
        return self.at("head")(x.mean((2, 3)))


PARTS = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3")


def style(stem_conv, stem_norm, head, block, parts, order="conv1 norm1 conv2 norm2 conv3 norm3"):
    names = dict(zip(PARTS, parts.split(), strict=True))
    return names | {"stem.conv": stem_conv, "stem.norm": stem_norm, "head": head, "block": block}, order


COMMON = "layer{stage}.{index}.{part}"
DOWN = "conv1 bn1 conv2 bn2 downsample.0 downsample.1"
STYLES = {
    "chenyaofo": style("conv1", "bn1", "fc", COMMON, DOWN),
    "kuangliu": style("conv1", "bn1", "linear", COMMON, DOWN.replace("downsample", "shortcut")),
    "hysts": style("conv", "bn", "fc", "stage{stage}.block{index}.{part}", DOWN.replace("downsample.", "shortcut.c")),
    "letters": style(
        "conv_1_3x3", "bn_1", "classifier", "stage_{stage}.{index}.{part}", "conv_a bn_a conv_b bn_b down_conv down_bn"
    ),
    "pairs": style(
        "stem.conv",
        "stem.norm",
        "head.linear",
        "stages.{stage}.{index}.{part}",
        "first.conv first.norm second.conv second.norm skip.conv skip.norm",
    ),
    "lists": style(
        "conv0", "bn0", "output", "blocks{stage}.{index}.{part}", "convs.0 norms.0 convs.1 norms.1 skip.0 skip.1"
    ),
    "convolutions first": style(
        "conv", "bn", "fc", COMMON, "conv1 bn1 conv2 bn2 conv_s bn_s", "conv1 conv2 conv3 norm3 norm2 norm1"
    ),
    "shortcut first": style("conv1", "bn1", "fc", COMMON, DOWN, "conv3 norm3 conv1 norm1 conv2 norm2"),
    "a list of all": style("features.0", "features.1", "last", "b{stage}{index}.m.{part}", "0 1 2 3 s0 s1"),
}


def drawn(network, seed=0):
    """In eval mode, every parameter and buffer drawn, so that no two of a shape can be exchanged unseen."""
    torch.manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.dim() == 1:
            tensor.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
        elif tensor.is_floating_point():
            tensor.normal_(0, tensor[0].numel() ** -0.5)
    return network.eval()


IMAGES = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def read(tensors, **asked):
    """The network read of a file of these tensors, and what is said of it."""
    torch.save(tensors, "x.pt")
    return network_of(read_weights(Path("x.pt")), **asked)


@torch.no_grad()
def same(network, made, inputs=IMAGES):
    torch.testing.assert_close(made.network.eval()(inputs), network(IMAGES), atol=1e-5, rtol=1e-5)


def refused(tensors, **asked):
    with pytest.raises(UserError) as caught:
        read(tensors, **asked)
    said = str(caught.value)
    assert "\n" not in said
    assert not said.endswith(":")
    return said


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Other names


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("named", STYLES)
def test_a_network_under_other_names_computes_the_same(named, option):
    network = drawn(Renamed(option, STYLES[named]))
    made = read(network.state_dict())
    assert made.what == f"residual-8 with shortcut {option}"
    same(network, made)


@pytest.mark.parametrize(("option", "n"), [("A", 1), ("B", 1), ("C", 1), ("A", 3), ("B", 3), ("C", 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_network_of_nn_sequential_computes_the_same_with_biases_and_without(option, n, bias):
    network = drawn(sequential(option, n, bias))
    made = read(network.state_dict())
    assert made.what == f"residual-{6 * n + 2} with shortcut {option}"
    assert "0.weight is our conv1.weight" in " ".join(made.notes)
    same(network, made)


def test_biases_in_front_of_a_norm_are_folded_where_the_names_are_ours_too():
    network = Renamed("B", STYLES["chenyaofo"])
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
            assert f"{name}.bias" in network.state_dict()
    same(drawn(network), read(network.state_dict()))


def test_a_plain_network_is_read_as_such_where_it_is_asked_for():
    network = drawn(sequential("plain", 2))
    made = read(network.state_dict(), network="plain")
    assert made.what == "plain-14"
    same(network, made)


def test_blocks_are_counted_as_numbers_where_the_order_is_that_of_the_names():
    network = drawn(sequential("B", 4))  # modules 3 to 14: 10 is behind 9
    save_file(network.state_dict(), "x.safetensors")
    made = network_of(read_weights(Path("x.safetensors")))
    same(network, made)
    assert "by the order of the names" in " ".join(made.notes)


def test_the_norms_of_a_file_that_is_sorted_by_name_find_their_convolutions():
    network = drawn(Renamed("C", STYLES["convolutions first"]))
    save_file(network.state_dict(), "x.safetensors")
    same(network, network_of(read_weights(Path("x.safetensors"))))


def test_a_wide_network_is_read_with_its_width():
    from degradation import networks

    network = drawn(networks.network("residual", 8, width=2))
    made = read(network.state_dict())
    assert made.network.conv1.out_channels == 32
    same(network, made)


# What is not said


def test_what_is_not_asked_for_is_that_of_the_file():
    network = drawn(Renamed("B", STYLES["kuangliu"], n=2))
    for asked in ({}, {"network": "residual"}, {"depth": "14"}, {"shortcut": "B"}):
        assert read(network.state_dict(), **asked).what == "residual-14 with shortcut B"


@pytest.mark.parametrize(
    "asked", [{"network": "plain"}, {"depth": "20"}, {"depth": "6002"}, {"shortcut": "A"}, {"shortcut": "C"}]
)
def test_what_contradicts_the_file_is_refused_before_anything_is_built(asked, monkeypatch):
    state = Renamed("B", STYLES["kuangliu"]).state_dict()
    monkeypatch.setattr("degradation.networks.network", lambda *_, **__: pytest.fail("built"))
    assert "try --depth 8 --network residual --shortcut B" in refused(state, **asked)


def test_that_a_plain_network_has_the_same_tensors_is_said_where_nobody_said_which_it_is():
    state = Renamed("A", STYLES["kuangliu"]).state_dict()
    assert "--network plain" in " ".join(read(state).notes)
    assert not read(state, network="residual").notes


class Bottleneck(nn.Module):
    """As in bearpaw/pytorch-classification."""

    def __init__(self, inputs, filters):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, filters, 1, bias=False), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = nn.Conv2d(filters, filters, 3, bias=False), nn.BatchNorm2d(filters)
        self.conv3, self.bn3 = nn.Conv2d(filters, 4 * filters, 1, bias=False), nn.BatchNorm2d(4 * filters)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_bottleneck_blocks_are_named_as_such(prefix):
    network = nn.Module()
    network.conv1, network.bn1 = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
    for stage, width in enumerate(WIDTHS, start=1):
        blocks = nn.Sequential(Bottleneck(16, width), Bottleneck(4 * width, width))
        network.add_module(f"layer{stage}", blocks)
    network.fc = nn.Linear(256, 10)
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    assert "bottleneck blocks (1x1, 3x3, 1x1)" in refused({"state_dict": state})
    assert "bottleneck blocks" in refused(torchvision.models.resnet50().state_dict(), network="residual", depth="50")


def test_four_stages_are_named_as_such():
    said = refused(torchvision.models.resnet18().state_dict())
    assert "4 widths, as of so many stages (64, 128, 256, 512 filters)" in said


@pytest.mark.parametrize("asked", [{}, {"network": "residual", "depth": "8"}])
def test_names_of_the_file_stand_beside_those_expected_where_nothing_fits(asked):
    said = refused({"block.a": torch.zeros(3, 3), "head.weight": torch.zeros(10, 7)}, **asked)
    assert "block.a" in said
    assert "conv1.weight" in said


OPTIONS = ({}, {"network": "residual", "depth": "20"})


@pytest.mark.parametrize("asked", OPTIONS)
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_a_network_without_norms_is_said_to_have_none(kind, asked):
    from degradation import networks

    without = networks.network(kind, 20, norm="none").state_dict()
    left = {name: t for name, t in networks.network(kind, 20).state_dict().items() if "bn" not in name}
    for state in (without, left, without | {"layer1.0.scale": torch.ones(1), "layer1.0.act.weight": torch.ones(1)}):
        said = refused(state, **asked)
        assert "x.pt is of no network that can be probed: it has no norm layers" in said
        assert "missing" not in said


def test_norms_without_running_statistics_are_said_to_have_none():
    from degradation import networks

    state = networks.network("residual", 8).state_dict()
    grouped = {name: tensor for name, tensor in state.items() if "running" not in name}
    assert "its norm layers have no running mean and variance" in refused(grouped)


@pytest.mark.slow
def test_what_a_file_holds_is_said_where_it_is_nearly_no_network_of_ours():
    said = refused(torchvision.models.vgg11_bn(num_classes=10).state_dict())
    assert "it holds 8 convolutions (8 of 3x3), 8 batch norms and 3 linear layers; its names begin features.0" in said
    assert "--depth" not in said
    assert "it holds 5 convolutions (3 of 3x3, 1 of 11x11, 1 of 5x5), no batch norms and 3 linear layers" in refused(
        torchvision.models.alexnet(num_classes=10).state_dict()
    )
    said = refused(torchvision.models.vgg11_bn(num_classes=10).state_dict(), network="residual", depth="20")
    assert "it holds 8 convolutions (8 of 3x3), 8 batch norms and 3 linear layers" in said


@pytest.mark.parametrize(
    ("name", "shape", "held"),
    [
        ("conv1.weight", (16, 3, 3, 3), "1 convolution (1 of 3x3), no batch norms and no linear layers"),
        ("weight", (16, 3, 3, 3), "1 convolution (1 of 3x3), no batch norms and no linear layers"),
        (".weight", (16, 3, 3, 3), "1 convolution (1 of 3x3), no batch norms and no linear layers"),
        ("module.conv1.weight", (2**40, 0, 3, 3), "1 convolution (1 of 3x3), no batch norms and no linear layers"),
        ("a.weight", (4, 3), "no convolutions, no batch norms and 1 linear layer"),
        ("w", (4, 3), "no convolutions, no batch norms and no linear layers"),
    ],
)
def test_of_a_file_with_one_tensor_it_is_said_what_it_is(name, shape, held):
    said = refused({name: torch.zeros(()).expand(shape) if 0 not in shape else torch.zeros(shape)})
    assert f"it holds {held}; its names begin {name}" in said
    assert "--depth" not in said


@pytest.mark.parametrize(("prefix", "width"), [("", 1), ("module.", 2)])
@pytest.mark.parametrize(("stray", "shape"), [("teacher.conv.weight", (7, 7, 3, 3)), ("proj.weight", (7, 7, 1, 1))])
def test_a_foreign_tensor_in_a_network_is_named_at_once(prefix, width, stray, shape):
    from degradation import networks

    state = networks.network("residual", 20, "B", width=width).state_dict() | {stray: torch.zeros(shape)}
    sizes = "x".join(map(str, shape))
    assert refused({prefix + name: tensor for name, tensor in state.items()}) == (
        "x.pt shows no network of 6n+2 layers; the nearest is residual-20 with shortcut B, but "
        f"{prefix}{stray} {sizes} is unknown"
    )
    state.pop(stray)
    state.pop("layer1.1.conv2.weight")
    said = refused(state, network="residual")
    assert said.endswith(f"but layer1.1.conv2.weight {16 * width}x{16 * width}x3x3 is missing")


def test_a_network_with_more_than_the_layers_that_are_read_is_refused():
    for extra in (nn.PReLU(), nn.Linear(64, 64), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3)):
        network = sequential("B")
        network.insert(6, extra)
        assert "x.pt" in refused(network.state_dict())


def test_a_network_whose_norm_stands_before_its_convolution_is_refused():
    state = OrderedDict()
    for name, tensor in Renamed("B", STYLES["chenyaofo"]).state_dict().items():
        before = name.startswith(("layer2.0.bn1", "layer3.0.bn1")) and tensor.dim()
        state[name] = tensor[: len(tensor) // 2] if before else tensor
    assert "layer2.0.bn1.weight is 16, expected 32" in refused(state)


def test_a_tensor_of_another_shape_is_named_where_the_rest_fits_by_order():
    state = Renamed("B", STYLES["pairs"]).state_dict() | {"stages.2.0.first.norm.weight": torch.zeros(17)}
    assert refused(state) == (
        "x.pt does not fit residual-8 with shortcut B: stages.2.0.first.norm.weight is 17, expected 32"
    )


def test_of_two_tensors_with_one_of_our_names_none_is_lost():
    state = Renamed("A", STYLES["kuangliu"]).state_dict()
    assert "linear.weight 10x64 is unknown" in refused(state | {"fc.weight": torch.zeros(10, 64)})
