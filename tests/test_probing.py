"""`degradation probe` on checkpoints of ours and in the public format, and on files that do not fit."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from degradation import networks
from degradation.cli.probe import NORMALIZATIONS, channels_of
from degradation.data.synthetic import load
from degradation.errors import UserError
from degradation.launchers import runner
from degradation.spec import Synthetic
from degradation.training.checkpoint import encode_weights
from tests.calling import Command, command  # noqa: F401
from tests.made import study_spec

pytestmark = pytest.mark.slow

DATA = Synthetic()
PROBE = ["probe", "--dataset", "synthetic", "--device", "cpu"]


class PublicBlock(nn.Module):
    """A block as the public CIFAR ResNets have it, written for this test: other names, in-place, a lambda shortcut."""

    def __init__(self, inputs, filters, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Sequential()
        self.pad = filters // 4 if option == "A" and inputs != filters else 0
        if option == "B" and inputs != filters:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad)) if self.pad else self.shortcut(x)
        return F.relu(out)


class PublicNetwork(nn.Module):
    """Eight layers, with ``linear`` at the end."""

    def __init__(self, option):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(PublicBlock(16, 16, 1, option))
        self.layer2 = nn.Sequential(PublicBlock(16, 32, 2, option))
        self.layer3 = nn.Sequential(PublicBlock(32, 64, 2, option))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        out = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(out, out.shape[3]).flatten(1))


def trained(option, channels):
    """The public network after a few steps, so that its test error is neither chance nor nothing; and that error."""
    torch.manual_seed(0)
    images, model = load(DATA), PublicNetwork(option)
    mean, std = (torch.tensor(values)[:, None, None] for values in channels)

    def pixels(split, part):
        return (torch.from_numpy(split.images[part]).permute(0, 3, 1, 2) / 255 - mean) / std

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(12):
        part = slice(64 * step, 64 * step + 64)
        optimizer.zero_grad()
        labels = torch.from_numpy(images.train.labels[part])
        F.cross_entropy(model(pixels(images.train, part)), labels).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        answers = model(pixels(images.test, slice(None))).argmax(1).numpy()
    return model, float((answers != images.test.labels).mean())


@pytest.mark.parametrize(("option", "name"), [("A", "imagenet"), ("B", "cifar")])
def test_a_public_checkpoint_has_the_test_error_computed_by_hand(command, option, name, tmp_path):  # noqa: F811
    model, error = trained(option, NORMALIZATIONS[name])
    assert 0.02 < error < 0.88
    state = {f"module.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.5, "epoch": 3}, tmp_path / "resnet8.th")
    shortcut = ["--shortcut", option]
    said = command(
        *PROBE, "--network", "residual", "--depth", "8", "--weights", "resnet8.th", "--normalize", name, *shortcut
    )
    assert said.status == 0, said.err
    assert f"test error {100 * error:.2f} % with running statistics" in said.out
    curves = pd.read_parquet("probes/resnet8/curves.parquet").set_index("statistics")
    assert curves.loc["running", "error"] == pytest.approx(error)
    assert curves.loc["running", "examples"] == 1000
    assert "layer3.0.conv2" in said.out


def test_what_was_probed_is_not_written_over_by_other_weights_or_options(command, tmp_path):  # noqa: F811
    for seed in (0, 1):
        made = encode_weights(networks.network("plain", 8, seed=seed).state_dict(), torch.zeros(16, 16, 3), {"step": 7})
        (tmp_path / f"plain-8-s{seed}").mkdir()
        (tmp_path / f"plain-8-s{seed}" / "final.safetensors").write_bytes(made)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plain-8-s1.safetensors").write_bytes(made)

    def probed(file, *options):
        return command(
            *PROBE, "--network", "plain", "--depth", "8", "--weights", file, "--eval-examples", "64", *options
        )

    assert probed("plain-8-s0/final.safetensors").status == probed("plain-8-s1/final.safetensors").status == 0
    assert {path.name for path in (tmp_path / "probes").iterdir()} == {"plain-8-s0", "plain-8-s1"}
    assert probed("plain-8-s1/final.safetensors").status == 0  # the same again
    for refused in (
        probed("plain-8-s1/final.safetensors", "--batch", "64"),
        probed("other/plain-8-s1.safetensors", "--normalize", "cifar"),
    ):
        assert refused.status == 2
        assert "probes/plain-8-s1 holds results of other weights or other options" in refused.err
    assert probed("plain-8-s1/final.safetensors", "--batch", "64", "--out", "probes/plain-8-s1").status == 0


def test_weights_of_a_run_on_digits_are_probed_on_digits(command, tmp_path):  # noqa: F811
    spec = study_spec(dataset={"name": "digits"}, networks=("plain",), recipe={"steps": 20})
    results = runner.run(spec, name="s", root=tmp_path)
    [run_id] = results.run_ids
    weights = str(tmp_path / "s" / run_id / "final.safetensors")
    asked = [*PROBE[:2], "digits", "--device", "cpu", "--weights", weights, "--out", "out", "--format", "csv"]
    found = command(*asked)
    assert found.status == 0, found.err
    last = results["curves"].query("step == 20 and split == 'test' and statistics == 'running'")
    curves = pd.read_csv("out/curves.csv").query("split == 'test' and statistics == 'running'")
    assert list(curves["error"]) == pytest.approx(list(last["error"]))
    assert list(curves["examples"]) == [297]


def test_a_study_s_final_weights_are_probed_with_their_own_mean_image(command, tmp_path):  # noqa: F811
    network = networks.network("plain", 8, seed=3)
    images = load(DATA)
    mean = torch.from_numpy(images.mean_image) + 0.25
    (tmp_path / "final.safetensors").write_bytes(encode_weights(network.state_dict(), mean, {"run": {}, "step": 70}))
    said = command(
        *PROBE,
        "--network",
        "plain",
        "--depth",
        "8",
        "--weights",
        "final.safetensors",
        "--format",
        "csv",
        "--out",
        "out",
    )
    assert said.status == 0, said.err
    gradients, responses = pd.read_csv("out/gradients.csv"), pd.read_csv("out/responses.csv")
    assert set(gradients["step"]) == set(responses["step"]) == {70}
    x = torch.from_numpy(images.train.images[:128]).permute(0, 3, 1, 2) / 255 - mean.permute(2, 0, 1)
    for mode in (False, True):
        seen = {}
        network.train(mode)
        handle = network.layer2[0].bn1.register_forward_hook(lambda _m, _i, out, kept=seen: kept.update(out=out))
        F.cross_entropy(network(x), torch.from_numpy(images.train.labels[:128])).backward()
        handle.remove()
        row = responses.query(f"name == 'layer2.0.conv1' and statistics == '{'batch' if mode else 'running'}'").iloc[0]
        assert row["std"] == pytest.approx(seen["out"].std(correction=0).item(), rel=1e-3)
        assert (row["split"], row["examples"]) == ("train", 128)
        norm = network.layer2[0].conv1.weight.grad.norm().item()
        network.zero_grad()
        network.load_state_dict(networks.network("plain", 8, seed=3).state_dict())
    row = gradients.query("name == 'layer2.0.conv1'").iloc[0]
    assert row["weight_grad_norm"] == pytest.approx(norm, rel=1e-3)
    assert np.isnan(row["update_norm"])


class Thing:
    """What no weights file may make us unpickle."""


def broken(tmp_path):
    """File -> what its error says."""
    good = networks.network("residual", 8, seed=0).state_dict()
    torch.save(good, tmp_path / "good.pt")
    torch.save({"net": Thing()}, tmp_path / "thing.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:5000])
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (tmp_path / "text.pt").write_text("hello, these are no weights at all")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    save_file(good, tmp_path / "good.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:9000])
    torch.save({name: t for name, t in good.items() if name != "fc.bias"}, tmp_path / "missing.pt")
    torch.save(good | {"extra.weight": torch.zeros(2, 3)}, tmp_path / "more.pt")
    torch.save(good | {"conv1.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "shape.pt")
    torch.save(networks.network("residual", 14, seed=0).state_dict(), tmp_path / "deeper.pt")
    return {
        "nowhere.pt": "cannot read nowhere.pt: No such file",
        "thing.pt": "objects besides tensors",
        "cut.pt": "cut.pt",
        "plain.pkl": "plain.pkl",
        "text.pt": "text.pt",
        "empty.pt": "empty.pt is empty",
        "none.pt": "holds no tensors by name",
        "cut.safetensors": "damaged or cut short",
        "missing.pt": "fc.bias 10 is missing",
        "more.pt": "extra.weight 2x3 is unknown",
        "shape.pt": "conv1.weight is 32x3x3x3, expected 16x3x3x3",
        "deeper.pt": "these look like depth 14: try --depth 14 --network residual --shortcut A (or --network plain)",
        ".": ". is a directory, not a file of weights",
    }


def test_a_file_that_does_not_fit_is_refused_in_one_line(command, tmp_path):  # noqa: F811
    for file, expected in broken(tmp_path).items():
        said = command(*PROBE, "--network", "residual", "--depth", "8", "--weights", file)
        assert said.status == 2, file
        assert expected in said.err, (file, said.err)
        assert len(said.err.splitlines()) == 1, file
        assert not (tmp_path / "probes").exists()


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("afile", "afile is no directory"),
        ("afile/tables", "afile is no directory"),
        ("loop", "loop is no directory"),
        ("/proc/none", "nothing can be made in /proc ("),
        ("/proc/self", "nothing can be made in /proc/self ("),
        ("taken", "taken/responses.parquet is a directory"),
        ("x" * 300, "File name too long"),
        ("", "probes is no directory"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(
    command,  # noqa: F811
    tmp_path,
    monkeypatch,
    out,
    why,
):
    monkeypatch.setattr("degradation.experiments.probe_weights.Prober.__call__", lambda *_: pytest.fail("computed"))
    torch.save(networks.network("residual", 8, seed=0).state_dict(), tmp_path / "good.pt")
    for name in ("afile", "probes"):
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "taken" / "responses.parquet").mkdir(parents=True)
    said = command(*PROBE, "--weights", "good.pt", *(["--out", out] if out else []))
    assert (said.status, said.err.count("\n")) == (2, 1), said.err
    assert f"cannot write {(out or 'probes/good')[:50]}" in said.err  # a long word is cut
    assert why in said.err
    assert "kept" not in said.err


def test_a_store_that_nobody_knows_is_said_before_anything_is_computed(command, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("degradation.experiments.probe_weights.Prober.__call__", lambda *_: pytest.fail("computed"))
    torch.save(networks.network("residual", 8, seed=0).state_dict(), tmp_path / "good.pt")
    said = command(*PROBE, "--weights", "good.pt", "--out", "nope://x/y")
    assert (said.status, said.err.count("\n")) == (2, 1), said.err


def test_trying_a_folder_leaves_nothing_of_it(command, tmp_path):  # noqa: F811
    state = networks.network("plain", 8, seed=0).state_dict()
    (tmp_path / "big.safetensors").write_bytes(encode_weights(state, torch.zeros(32, 32, 3), {"step": 1}))
    (tmp_path / "there").mkdir()
    asked = [*PROBE, "--network", "plain", "--depth", "8", "--weights", "big.safetensors"]
    for out in ("a/b/c", "there"):
        assert "mean image" in command(*asked, "--out", out).err
    assert {path.name for path in tmp_path.rglob("*")} == {"big.safetensors", "there"}


def overflowing(images):
    """A state whose outputs overflow for some of these images alone."""
    network = networks.network("residual", 8, seed=0).eval()
    with torch.no_grad():
        network.layer3[0].bn2.weight *= 1e6
        size = (network(images) - network.fc.bias).abs().max(1).values
        network.fc.weight *= 3.0e38 / size.median()
    return network.state_dict()


def test_outputs_that_are_not_finite_have_no_test_error(command, tmp_path):  # noqa: F811
    images = load(DATA)
    pixels = (torch.from_numpy(images.test.images[:64]) / 255 - torch.from_numpy(images.mean_image)).permute(0, 3, 1, 2)
    state = overflowing(pixels)
    network = networks.network("residual", 8, seed=0).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        lost = int((~network(pixels).isfinite()).any(1).sum())
    assert 0 < lost < 64
    torch.save(state, tmp_path / "big.pt")
    said = command(*PROBE, "--weights", "big.pt", "--eval-examples", "64", "--batch", "64", "--format", "csv")
    assert said.status == 0, said.err
    assert f"with running statistics its outputs are not finite (NaN or infinite) for {lost} of 64 images" in said.out
    assert "test error none with running statistics" in said.out
    curves = pd.read_csv("probes/big/curves.csv").set_index("statistics")
    assert np.isnan(curves.loc["running", "error"])


def test_the_layer_is_named_from_which_on_responses_are_not_finite(command, tmp_path):  # noqa: F811
    state = networks.network("residual", 8, seed=0).state_dict()
    torch.save(state | {"layer2.0.conv1.weight": state["layer2.0.conv1.weight"] * 1e37}, tmp_path / "big.pt")
    said = command(*PROBE, "--weights", "big.pt", "--eval-examples", "64", "--batch", "64")
    assert said.status == 0, said.err
    assert "with batch statistics its outputs are not finite (NaN or infinite) for 64 of 64 images" in said.out
    assert "responses are not finite from layer2.0." in said.out


def test_a_loss_that_overflows_is_said_where_the_outputs_are_finite(command, tmp_path):  # noqa: F811
    state = networks.network("residual", 8, seed=0).state_dict()
    torch.save(state | {"fc.bias": torch.tensor([-3e38] * 9 + [0.0])}, tmp_path / "big.pt")
    said = command(*PROBE, "--weights", "big.pt", "--eval-examples", "64", "--batch", "64")
    assert said.status == 0, said.err
    assert "with running statistics its loss is not finite" in said.out
    assert "outputs are not finite" not in said.out


def test_counters_of_batches_may_be_missing(command, tmp_path):  # noqa: F811
    state = networks.network("residual", 8, seed=0).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, tmp_path / "old.pt")
    asked = ["--network", "residual", "--depth", "8", "--weights", "old.pt", "--eval-examples", "100"]
    said = command(*PROBE, *asked)
    assert said.status == 0, said.err
    assert "do --network, --shortcut, --normalize and --dataset fit these weights?" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--normalize", "1,2/3"], "--normalize"),
        (["--normalize", "0,0,0/1,0,1"], "--normalize"),
        (["--normalize", "nan,0,0/1,1,1"], "finite"),
        (["--normalize", "0,0,0/1,inf,1"], "finite"),
        (["--depth", "9"], "6n+2"),
        (["--shortcut", "D"], "A, B, C"),
        (["--format", "json"], "csv or parquet"),
        (["--dataset", "mnist"], "cifar10 or digits or synthetic"),
        (["--device", "abacus"], "--device"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(command, tmp_path, options, expected):  # noqa: F811
    torch.save(networks.network("residual", 8, seed=0).state_dict(), tmp_path / "good.pt")
    said = command(*PROBE, "--network", "residual", "--depth", "8", "--weights", "good.pt", *options)
    assert said.status == 2
    assert expected in said.err
    assert len(said.err.splitlines()) == 1


def test_a_mean_image_of_another_size_is_refused(command, tmp_path):  # noqa: F811
    state = networks.network("plain", 8, seed=0).state_dict()
    (tmp_path / "big.safetensors").write_bytes(encode_weights(state, torch.zeros(32, 32, 3), {"step": 1}))
    said = command(*PROBE, "--network", "plain", "--depth", "8", "--weights", "big.safetensors")
    assert said.status == 2
    assert "(32, 32, 3), the images are (16, 16, 3)" in said.err


def test_channels_are_read_as_numbers():
    assert channels_of("0.1,0.2,0.3/1,2,4") == ((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    assert channels_of("paper") is None
    with pytest.raises(UserError):
        channels_of("nan,0,0/nan,1,1")


def test_the_metadata_of_strangers_says_no_step(tmp_path):
    from degradation.networks.weight_files import read_weights

    state = networks.network("plain", 8, seed=0).state_dict()
    save_file(state, tmp_path / "a.safetensors", {"degradation": json.dumps({"no": 1})})
    assert read_weights(tmp_path / "a.safetensors").step == 0
