"""Files of weights: what is read of them, what is passed over, and what a file that does not fit is said to be."""

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from degradation import networks
from degradation.errors import UserError
from degradation.networks.reading import network_of
from degradation.networks.state_dicts import fill
from degradation.networks.weight_files import Placeholder, read_weights
from degradation.spec import RunSpec, StudySpec, Synthetic
from degradation.training.checkpoint import encode_weights
from tests.calling import Command, command  # noqa: F401


def state(kind="residual", depth=8, shortcut=None, **fields):
    return networks.network(kind, depth, shortcut, **fields).state_dict()


def refused(tensors, asked=("residual", 8), path=None):
    """What is said of a file that holds these tensors, read as weights of the network asked for."""
    path = path or Path("x.pt")
    torch.save(tensors, path)
    with pytest.raises(UserError) as caught:
        fill(networks.network(*asked, seed=None), read_weights(path), "this")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What a file that does not fit is


def public(tensors):
    return {f"module.{name.replace('downsample', 'shortcut')}": tensor for name, tensor in tensors.items()}


def test_a_refused_tensor_has_the_name_that_it_has_in_the_file():
    said = refused({"state_dict": public(state(shortcut="B"))})
    assert "module.layer2.0.shortcut.0.weight 32x16x1x1 is unknown" in said
    assert "downsample" not in said
    said = refused(state() | {"conv1.weight": torch.zeros(4, 3, 3, 3), "layer9.linear": torch.zeros(2)})
    assert "conv1.weight is 4x3x3x3, expected 16x3x3x3" in said
    assert "layer9.linear 2 is unknown" in said


@pytest.mark.parametrize(
    ("is_of", "asked", "conclusion"),
    [
        (
            ("residual", 20),
            ("residual", 56),
            "these look like depth 20: try --depth 20 --network residual",
        ),
        (("plain", 14), ("residual", 8, "B"), "try --depth 14 --network residual --shortcut A (or --network plain)"),
        (
            ("residual", 8, "B"),
            ("residual", 8, "A"),
            "try --depth 8 --network residual --shortcut B",
        ),
        (
            ("residual", 8, "C"),
            ("residual", 8, "B"),
            "try --depth 8 --network residual --shortcut C",
        ),
        (("residual", 14, "B"), ("plain", 8), "try --depth 14 --network residual --shortcut B"),
    ],
)
def test_a_file_of_another_network_is_said_to_look_like_it(is_of, asked, conclusion):
    assert conclusion in refused(state(*is_of), asked)


def test_a_network_of_four_stages_is_said_to_be_of_no_family_that_is_probed():
    assert "it has 4 widths, as of so many stages (64, 128, 256, 512 filters)" in refused(
        torchvision.models.resnet18().state_dict()
    )


def test_a_file_of_the_network_asked_for_but_for_one_tensor_is_not_said_to_look_like_itself():
    assert refused(state() | {"more": torch.zeros(1)}) == "x.pt does not fit this: more 1 is unknown"


def test_a_tensor_that_is_not_finite_is_named_and_the_network_left_as_it_was():
    tensors = state()
    tensors["conv1.weight"] = tensors["conv1.weight"].clone()
    tensors["conv1.weight"][3, 1] = float("nan")
    tensors["layer2.0.bn1.running_var"] = torch.full((32,), float("inf"))
    said = refused(public(tensors))
    assert "not finite (NaN or infinite) is module.conv1.weight; module.layer2.0.bn1.running_var:" in said
    torch.save(tensors, "x.pt")
    made = networks.network("residual", 8, seed=1)
    with pytest.raises(UserError):
        fill(made, read_weights(Path("x.pt")), "this")
    assert torch.equal(made.fc.bias, state(seed=1)["fc.bias"])


def test_a_negative_variance_is_named_and_the_network_left_as_it_was():
    tensors = state() | {"layer2.0.bn1.running_var": torch.tensor([1.0] * 31 + [-1e-3])}
    assert "negative is module.layer2.0.bn1.running_var:" in refused(public(tensors))
    torch.save(tensors, "x.pt")
    made = networks.network("residual", 8, seed=1)
    with pytest.raises(UserError):
        fill(made, read_weights(Path("x.pt")), "this")
    assert torch.equal(made.fc.bias, state(seed=1)["fc.bias"])
    refused(state() | {"layer2.0.bn1.running_var": torch.zeros(31)})  # another shape is said before
    torch.save(state() | {"layer2.0.bn1.running_var": torch.zeros(32)}, "x.pt")
    fill(made, read_weights(Path("x.pt")), "this")


# What stands beside the tensors


def test_options_and_numpy_scalars_beside_the_tensors_are_passed_over():
    beside = {
        "args": argparse.Namespace(lr=0.1, milestones=[100, 150], best=np.float32(3)),
        "acc": np.float64(91.25),
        "epoch": np.int64(3),
        "flags": [np.bool_(True), np.str_("x"), np.datetime64("2024-01-01")],
    }
    for form in (True, False):
        torch.save({"state_dict": state()} | beside, "x.pt", _use_new_zipfile_serialization=form)
        made = networks.network("residual", 8, seed=5)
        fill(made, read_weights(Path("x.pt")), "this")
        assert torch.equal(made.fc.bias, state()["fc.bias"])
    assert Placeholder not in [entry[0] for entry in torch.serialization.get_safe_globals() if isinstance(entry, tuple)]


def test_scalars_of_numpy_1_are_passed_over_as_well():
    torch.save({"state_dict": state(), "acc": np.float64(1)}, "x.pt", _use_new_zipfile_serialization=False)
    old = Path("x.pt").read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    Path("x.pt").write_bytes(old)
    assert "fc.bias" in read_weights(Path("x.pt")).tensors


class Runs:
    """Runs a command where it is unpickled."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ((os.system, ("touch harm",)), "posix.system"),
        ((eval, ("__import__('os').system('touch harm')",)), "eval"),
        ((np.frombuffer, (b"",)), "numpy.frombuffer"),
        ((getattr, (np.dtype, "newbyteorder")), "getattr"),
    ],
)
@pytest.mark.parametrize("within", [lambda it: it, lambda it: argparse.Namespace(it=it)])
def test_whatever_else_stands_there_is_refused_by_name_and_not_made(how, named, within):
    assert named in refused({"state_dict": state(), "it": within(Runs(how))})
    assert not Path("harm").exists()


def test_what_is_passed_over_is_not_made_at_all():
    scalar = np.float64(1).__reduce__()[0]
    made = {"state_dict": state(), "it": Runs((scalar, (np.dtype("O"), b"anything")))}
    torch.save(made, "x.pt")
    read_weights(Path("x.pt"))  # numpy itself refuses to make this one
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Runs((scalar, (np.dtype("O"), b"anything")))))
    assert vars(Placeholder(1, 2)) == {}


# Files that are none


@pytest.mark.parametrize("content", [b"hello, these are no weights", b"# readme", b"\x00" * 40])
def test_a_file_of_another_kind_is_said_to_be_none(content):
    Path("text.th").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_weights(Path("text.th"))
    assert str(caught.value) == (
        "cannot read text.th as weights: it is neither safetensors nor a file that torch saved"
    )


@pytest.mark.parametrize(("form", "words"), [(True, "failed finding central directory"), (False, "unexpected EOF")])
def test_of_a_file_cut_short_a_whole_sentence_of_torch_is_said(form, words):
    torch.save(state(), "whole.pt", _use_new_zipfile_serialization=form)
    Path("cut.pt").write_bytes(Path("whole.pt").read_bytes()[:-40_000])
    with pytest.raises(UserError) as caught:
        read_weights(Path("cut.pt"))
    assert words in str(caught.value)
    assert str(caught.value).endswith("): it is damaged or cut short")
    assert len(str(caught.value)) < 160
    Path("cut.pt").write_bytes(Path("whole.pt").read_bytes()[:20])
    with pytest.raises(UserError, match="damaged or cut short"):
        read_weights(Path("cut.pt"))


def test_safetensors_without_a_tensor_are_refused():
    save_file({}, "none.safetensors")
    with pytest.raises(UserError, match="holds no tensors by name"):
        read_weights(Path("none.safetensors"))


# Files of ours


PROBE = ["probe", "--dataset", "synthetic", "--device", "cpu", "--eval-examples", "100", "--batch", "16"]


def of_ours(**fields):
    """A file of ours, of a run with these fields."""
    study = StudySpec(dataset=Synthetic(), depths=(8,))
    named = {"network": "residual", "depth": 8, "shortcut": "B", "seed": 0} | fields
    run = RunSpec(dataset=study.dataset, recipe=study.recipe_at(8), **named)
    mean = torch.zeros(16, 16, 3)
    facts = {"run": run.model_dump(mode="json"), "step": 700}
    Path("final.safetensors").write_bytes(encode_weights(networks.for_run(run).state_dict(), mean, facts))


@pytest.mark.parametrize(
    ("asked", "is_of", "words"),
    [
        ("--network plain --depth 8", {"shortcut": "A"}, "--network residual --depth 8 --shortcut A"),
        ("--network residual --depth 8", {"network": "plain", "shortcut": "none"}, "--network plain --depth 8"),
        ("--network residual --depth 14", {}, "--network residual --depth 8 --shortcut B"),
        (
            "--network plain --depth 8",
            {"shortcut": "A", "block": {"gate": "exclusive"}},
            "--network residual --depth 8",
        ),
    ],
)
def test_a_file_of_ours_is_not_read_as_another_network(command: Command, asked, is_of, words):  # noqa: F811
    of_ours(**is_of)
    said = command(*PROBE, *asked.split(), "--weights", "final.safetensors")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert words in said.err


@pytest.mark.slow
def test_a_file_of_ours_says_norm_width_and_blocks_itself(command: Command, monkeypatch):  # noqa: F811
    from degradation.experiments.probe_weights import Prober

    probed, real = [], Prober.__call__
    monkeypatch.setattr(Prober, "__call__", lambda self, network: (probed.append(network), real(self, network))[1])
    of_ours(norm="none", width=2, block={"order": "relu-only", "gate": "shortcut-only"})
    said = command(*PROBE, "--network", "residual", "--depth", "8", "--shortcut", "B", "--weights", "final.safetensors")
    assert said.status == 0, said.err
    assert (probed[0].spec.order, probed[0].conv1.out_channels) == ("relu-only", 32)
    assert "fc: no response" in said.out


def test_the_factor_of_a_branch_without_a_norm_is_that_of_the_run():
    for initialization, factor in (("dirac", 1 / 3), ("he", 3**-0.5)):
        of_ours(norm="none", shortcut="A", initialization=initialization)
        made = network_of(read_weights(Path("final.safetensors"))).network
        assert made.layer1[0].scale.factor == pytest.approx(factor)


@pytest.mark.slow
def test_the_figure_of_a_probe_names_the_shortcut_and_no_step_in_its_legend(command: Command, monkeypatch):  # noqa: F811
    from degradation.figures import recorded

    drawn, real = [], recorded.recorded
    monkeypatch.setattr(recorded, "recorded", lambda *a, **k: (drawn.append(real(*a, **k)), drawn[-1])[1])
    torch.save(state(), "r.pt")
    of_ours()
    for weights, shortcut, title in (("r.pt", "A", "r.pt, synthetic"), ("final.safetensors", "B", "step 700")):
        said = command(*PROBE, "--network", "residual", "--depth", "8", "--weights", weights, "--shortcut", shortcut)
        assert said.status == 0, said.err
        above, *_, below = drawn[-1][0].axes
        assert above.get_title(loc="left").startswith(f"residual-8 with shortcut {shortcut}: {weights}, synthetic")
        assert above.get_title(loc="left").endswith(title)
        assert above.get_legend() is None
        assert [text.get_text() for text in below.get_legend().get_texts()] == [
            "batch statistics",
            "running statistics",
        ]
        assert below.get_xlabel() == "layer, in forward order; without a response: fc"
