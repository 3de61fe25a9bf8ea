"""What stands around a network in a file, and beside it: the network is found, and the rest is said or used."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from degradation.networks.weight_files import read_weights
from tests.calling import Command, command  # noqa: F401
from tests.test_reading_public import IMAGES, STYLES, Renamed, drawn, elsewhere, read, refused, same  # noqa: F401


def network(option="B", seed=0):
    return drawn(Renamed(option, STYLES["kuangliu"]), seed)


def behind(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "net.", "backbone.", "model.", "_orig_mod.", "module._orig_mod.model.net.", "a.b.", "1."]
)
def test_whatever_stands_before_all_names_is_cut(prefix):
    made = network()
    same(made, read(behind(prefix, made.state_dict())))


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", ["state_dict", "model_state", "weights", "state_dict_ema", "net", "model", "params", "ema_model", "G"]
)
def test_the_state_dict_may_be_under_any_key_beside_what_an_optimizer_holds(key):
    made = network()
    optimizer = torch.optim.Adam(made.parameters())
    made(IMAGES).sum().backward()
    optimizer.step()
    drawn(made)
    read_as = read({"optimizer": optimizer.state_dict(), key: made.state_dict(), "epoch": 3})
    same(made, read_as)
    assert not any("passed over" in note for note in read_as.notes)
    same(made, read({"a": {"b": {key: behind("module.", made.state_dict())}}}))


def test_an_average_of_weights_is_read_as_torch_saves_it():
    made = network()
    same(made, read(AveragedModel(made).state_dict()))
    same(made, read(torch.nn.DataParallel(AveragedModel(made)).state_dict()))


def test_of_weights_and_their_average_the_weights_are_read_and_the_other_is_said():
    made, average = network(), network(seed=1)
    for key in ("state_dict_ema", "averaged"):
        found = read({key: average.state_dict(), "state_dict": made.state_dict()})
        same(made, found)
        assert f"{key}.conv1.weight" in " ".join(found.notes)
    found = read(made.state_dict() | behind("ema.module.", average.state_dict()))
    same(made, found)
    assert "ema.module.conv1.weight" in " ".join(found.notes)


def test_of_two_encoders_the_first_is_read():
    first, second = network(), network(seed=1)
    both = behind("module.encoder_q.", first.state_dict()) | behind("module.encoder_k.", second.state_dict())
    found = read(
        {"state_dict": both | {"module.queue": torch.rand(64, 128), "module.queue_ptr": torch.zeros(1).long()}}
    )
    same(first, found)
    assert "module.encoder_k.conv1.weight" in " ".join(found.notes)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("key", ["criterion.weight", "loss_fn.weight", "n_averaged", "epoch"])
def test_what_a_loss_or_a_counter_holds_beside_the_network_is_no_part_of_it(prefix, key):
    made = network()
    stray = torch.ones(10) if "weight" in key else torch.tensor(7)
    found = read({key: stray} | behind(prefix, made.state_dict()))
    same(made, found)
    assert ("criterion.weight" in " ".join(found.notes)) == (key == "criterion.weight")


def test_a_head_beside_a_backbone_is_the_linear_layer():
    made = network()
    state = made.state_dict()
    head = {f"head.{name}": state.pop(f"linear.{name}") for name in ("weight", "bias")}
    same(made, read(behind("backbone.", state) | head))


def test_a_wrapper_around_each_block_is_passed_through():
    made = network()
    state = {name.replace(".0.", "._checkpoint_wrapped_module.0.", 1): t for name, t in made.state_dict().items()}
    same(made, read(state))


# A normalization in front


class Normalize(nn.Module):
    def __init__(self, mean, std, shape=(1, 3, 1, 1)):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(shape))
        self.register_buffer("std", torch.tensor(std).view(shape))

    def forward(self, x):
        return (x - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)


MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.25, 0.3)


def normalized(channels):
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in channels)
    return (IMAGES - mean) / std


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
def test_a_normalization_in_front_is_that_of_the_images(shape):
    whole = nn.Sequential(Normalize(MEAN, STD, shape), network()).eval()
    found = read(whole.state_dict())
    same(whole, found, normalized(read_weights(Path("x.pt")).channels))
    assert "mean 0.49, 0.48, 0.45, std 0.2, 0.25, 0.3" in " ".join(found.notes)
    within = network()
    within.normalize = Normalize(MEAN, STD)
    read(within.state_dict())
    assert read_weights(Path("x.pt")).channels == read_weights(Path("x.pt")).channels is not None


def test_a_normalization_of_pixels_up_to_255_is_one_of_pixels_up_to_1():
    mean, std = ([255 * number for number in numbers] for numbers in (MEAN, STD))
    torch.save(nn.Sequential(Normalize(mean, std), network()).state_dict(), "x.pt")
    found = read_weights(Path("x.pt")).channels
    assert found[0] == pytest.approx(MEAN)
    assert found[1] == pytest.approx(STD)


def test_a_batch_norm_in_front_is_a_normalization():
    whole = drawn(nn.Sequential(nn.BatchNorm2d(3), network()))
    found = read(whole.state_dict())
    same(whole, found, normalized(read_weights(Path("x.pt")).channels))


def test_what_may_be_a_normalization_and_cannot_be_read_as_one_is_refused():
    state = behind("1.", network().state_dict())
    assert "0.shift" in refused(state | {"0.shift": torch.zeros(3)})
    assert "0.mean" in refused(state | {"0.mean": torch.zeros(3), "0.std": torch.zeros(3)})


@pytest.mark.slow
def test_the_normalization_of_a_file_is_used_and_no_other_taken(command: Command):  # noqa: F811
    torch.save(nn.Sequential(Normalize(MEAN, STD), network()).state_dict(), "x.pt")
    torch.save(network().state_dict(), "bare.pt")
    probe = ["probe", "--dataset", "synthetic", "--device", "cpu", "--eval-examples", "50", "--batch", "16"]
    said = command(*probe, "--weights", "x.pt", "--normalize", "cifar")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "holds its own mean and std" in said.err
    said = command(*probe, "--weights", "x.pt", "--format", "csv")
    assert said.status == 0, said.err
    given = "0.49,0.48,0.45/0.2,0.25,0.3"
    said = command(*probe, "--weights", "bare.pt", "--normalize", given, "--format", "csv")
    assert said.status == 0, said.err
    assert Path("probes/x/curves.csv").read_text() == Path("probes/bare/curves.csv").read_text()
