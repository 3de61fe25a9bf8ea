"""Files and tensors of other kinds: read where the right value can be had, else refused in one line that names them."""

import contextlib
import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from degradation import networks
from degradation.errors import UserError
from degradation.networks.reading import network_of
from degradation.networks.weight_files import read_weights
from degradation.training.checkpoint import encode_weights
from tests.calling import Command, command  # noqa: F401
from tests.test_reading_public import STYLES, Renamed, drawn, elsewhere, read, refused, same  # noqa: F401

STATE = networks.network("residual", 8).state_dict()
WHERE = "layer2.0.conv1.weight"


def with_tensor(change, where=WHERE):
    return STATE | {where: change(STATE[where])}


def refused_file(file=Path("x.pt")):
    with pytest.raises(UserError) as caught:
        network_of(read_weights(file))
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 250
    return said


# Tensors


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (lambda t: t.to(torch.float64), 0),
        (lambda t: t.to(torch.float16), 1e-3),
        (lambda t: t.to(torch.bfloat16), 1e-2),
        (lambda t: t.to(torch.float8_e4m3fn), 0.1),
        (lambda t: t.to(torch.float8_e5m2), 0.2),
        (lambda t: t.to_sparse(), 0),
        (lambda t: torch.quantize_per_tensor(t, 1e-3, 0, torch.qint32), 1e-3),
        (lambda t: torch.quantize_per_channel(t, torch.full((32,), 1e-3), torch.zeros(32), 0, torch.qint32), 1e-3),
        (lambda t: nn.Parameter(t), 0),
        (lambda t: t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 0),
    ],
)
def test_a_tensor_that_holds_real_numbers_is_read_as_float32(change, tolerance):
    made = read(with_tensor(change)).network.state_dict()[WHERE]
    assert made.dtype is torch.float32
    torch.testing.assert_close(made, STATE[WHERE], rtol=tolerance, atol=tolerance)


def test_a_linear_layer_in_compressed_rows_is_read():
    made = read(with_tensor(lambda t: t.to_sparse_csr(), "fc.weight"))
    assert torch.equal(made.network.fc.weight, STATE["fc.weight"])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_safetensors_of_other_precisions_are_read_as_float32(dtype):
    low = {name: t.to(dtype) if t.is_floating_point() else t for name, t in STATE.items()}
    save_file(low, "x.safetensors")
    made = network_of(read_weights(Path("x.safetensors"))).network
    assert torch.equal(made.fc.weight, low["fc.weight"].float())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: (100 * t).to(torch.int8), "int8"),
        (lambda t: t > 0, "bool"),
        (lambda t: t + 1j * t, "complex64"),
        (lambda t: t.to("meta"), "meta"),
        (lambda t: torch.zeros(t.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "float4"),
        (lambda t: torch.nested.nested_tensor([t[0], t[0, :1]]), "nested"),
    ],
)
def test_a_tensor_without_real_numbers_is_refused_by_name_and_kind(change, named):
    said = refused(with_tensor(change))
    assert WHERE in said
    assert named in said
    assert "expected" in said or "save it" in said or "convert" in said


def test_counters_of_any_kind_are_read_over():
    counters = [name for name in STATE if name.endswith("num_batches_tracked")]
    same(drawn(networks.network("residual", 8)), read(drawn(networks.network("residual", 8)).state_dict()))
    read(STATE | {name: torch.tensor(1.5) for name in counters})


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(16 * 10**9, 3, 3, 3), torch.sparse_coo_tensor(size=(16 * 10**9, 3, 3, 3))]
)
def test_shapes_that_no_memory_holds_are_refused_before_anything_is_built(tensor):
    refused(STATE | {"conv1.weight": tensor})
    with torch.device("meta"):
        wide = networks.network("residual", 8, width=10**6, seed=None).state_dict()
    assert "numbers" in refused({name: torch.zeros(()).expand(shaped.shape) for name, shaped in wide.items()})


def test_a_name_is_shown_in_one_line_and_cut():
    for name, part in (("a\nb\x1b[31m", r"a\nb\x1b[31m"), ("\ud800", r"\ud800"), ("x" * 10_000, "x" * 100 + "...")):
        said = refused(STATE | {name: torch.zeros(1)})
        assert f"{part} 1 is unknown" in said
        assert said.isprintable()


# Files of ours


@pytest.mark.parametrize(
    "says",
    [
        {"width": 10**9},
        {"width": -1},
        {"width": "wide"},
        {"width": [1]},
        {"depth": 6_000_002},
        {"depth": "8"},
        {"network": ["plain"]},
        {"network": "transformer", "depth": 8},
        {"shortcut": {}},
        {"norm": []},
        {"block": [[[]]]},
        {"block": {"order": 3}},
    ],
)
def test_what_a_file_says_of_itself_is_checked_before_a_network_is_built(says, command: Command):  # noqa: F811
    run = {"network": "residual", "depth": 8, "shortcut": "A"} | says
    Path("x.safetensors").write_bytes(encode_weights(STATE, torch.zeros(16, 16, 3), {"run": run, "step": 7}))
    for asked in ([], ["--network", "residual", "--depth", "8"]):
        said = command("probe", "--dataset", "synthetic", "--device", "cpu", "--weights", "x.safetensors", *asked)
        assert (said.status, said.err.count("\n")) == (2, 1), said.err
        assert "Traceback" not in said.err
        assert len(said.err) < 300


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"step": 1e999, "run": {}}', '{"step": -1, "run": {}}', '{"step": 1e30, "run": {}}', "null"],
)
def test_facts_that_are_none_are_passed_over(text):
    save_file(STATE, "x.safetensors", {"degradation": text})
    found = read_weights(Path("x.safetensors"))
    assert (found.step, found.run) == (0, {})


@pytest.mark.parametrize("image", [torch.full((16, 16, 3), float("nan")), torch.zeros(16, 16, 3).int()])
def test_a_mean_image_that_is_none_is_refused(image):
    Path("x.pt").write_bytes(encode_weights(STATE, image, {"step": 1}))
    assert "mean_image" in refused_file()


# Dicts


def test_a_dict_that_contains_itself_is_read_once():
    holding = {"epoch": 3, "state_dict": dict(STATE)}
    holding["state_dict"]["self"] = holding
    holding["model"] = holding
    read(holding)
    empty = {}
    empty["state_dict"] = empty
    assert "holds no tensors by name" in refused(empty)


def test_a_dict_nested_without_end_is_refused():
    Path("x.pt").write_bytes(b"\x80\x02" + b"}X\x01\0\0\0a" * 100_000 + b"}" + b"s" * 100_000 + b".")
    refused_file()


def test_a_tensor_without_a_name_is_no_error():
    assert "shows no network" in refused({"": torch.zeros(2)})
    assert "shows no network" in refused(
        {"": torch.zeros(2), ".": torch.zeros(2), "a..weight": torch.zeros(2, 2, 1, 1)}
    )


@pytest.mark.parametrize("loaded", [3, [torch.zeros(3)], {0: torch.zeros(3)}, {}, {"n": torch.tensor(3)}, None])
def test_what_is_no_state_dict_is_refused(loaded):
    assert "expected a state dict" in refused(loaded)


# Files


def torchscript():
    torch.jit.script(nn.Linear(2, 2)).save("x.pt")


def zipped(*names):
    with zipfile.ZipFile("x.pt", "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def tarred():
    with tarfile.open("x.pt", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(__file__, "storages")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: np.savez("x.npz", a=np.zeros(3)), ".npz"),
        (lambda: np.save("x.npy", np.zeros(3)), "NumPy"),
        (torchscript, "TorchScript"),
        (lambda: zipped("resnet.pth", "readme.txt"), "a zip archive that torch did not save"),
        (lambda: zipped(), "a zip archive that torch did not save"),
        (lambda: zipped("config.json", "model.weights.h5"), "Keras"),
        (tarred, "a tar archive"),
        (lambda: Path("x.pt").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), "compressed"),
        (lambda: Path("x.pt").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40)), "HDF5"),
        (lambda: Path("x.pt").write_bytes(b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1"), "Lua Torch"),
        (lambda: Path("x.pt").write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda: Path("x.pt").write_text("<!DOCTYPE html><html>sign in</html>"), "a web page"),
        (lambda: torch.save(STATE, "x.pt", pickle_protocol=4), "protocol"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_of_it(make, named):
    make()
    said = refused_file(*Path().iterdir())
    assert named in said
    assert "damaged" not in said
    assert "save model.state_dict()" in said


def connected():
    socket.socket(socket.AF_UNIX).bind("x.pt")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: os.mkfifo("x.pt"), "x.pt is a pipe, not a file of weights"),
        (lambda: (os.mkfifo("pipe"), Path("x.pt").symlink_to("pipe")), "x.pt is a pipe, not a file of weights"),
        (lambda: Path("x.pt").symlink_to("/dev/zero"), "x.pt is a character device, not a file of weights"),
        (lambda: Path("x.pt").symlink_to("/proc"), "x.pt is a directory, not a file of weights"),
        (connected, "x.pt is a socket, not a file of weights"),
        (lambda: Path("x.pt").touch(), "x.pt is empty"),
        (lambda: Path("x.pt").symlink_to("x.pt"), "cannot read x.pt: Too many levels of symbolic links"),
        (lambda: Path("x.pt").symlink_to("nowhere"), "cannot read x.pt: No such file"),
    ],
)
def test_what_is_no_file_is_refused_by_its_kind_without_being_opened(make, named, monkeypatch):
    make()
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    said = refused_file()
    assert said.startswith(named)
    assert "damaged" not in said


def test_a_pipe_of_an_open_file_is_refused_and_a_link_to_a_file_read():
    out, into = os.pipe()
    try:
        assert "is a pipe" in refused_file(Path(f"/dev/fd/{out}"))
    finally:
        os.close(out)
        os.close(into)
    torch.save(STATE, "whole.pt")
    Path("x.pt").symlink_to("whole.pt")
    assert network_of(read_weights(Path("x.pt"))).what == "residual-8 with shortcut A"


def legacy(state):
    """A file as torch 0.3 under Python 2 wrote it: names are bytes, tensors are made by ``_rebuild_tensor``."""

    def text(words):
        return b"U" + bytes([len(words)]) + words.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    keys, body, storages = [], b"", b""
    for key, (name, tensor) in enumerate(state.items()):
        kind = b"FloatStorage" if tensor.is_floating_point() else b"LongStorage"
        which = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(str(key)) + text("cpu")
        which += number(tensor.numel()) + b"Ntq" + bytes([key % 250]) + b"Q"
        sizes = b"(" + b"".join(map(number, tensor.shape)) + b"t"
        strides = b"(" + b"".join(map(number, tensor.stride())) + b"t"
        body += text(name) + b"ctorch._utils\n_rebuild_tensor\n(" + which + number(0) + sizes + strides + b"tR"
        keys.append(str(key))
        storages += struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes()
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
    begin = b"".join(pickle.dumps(part, protocol=2) for part in head)
    loaded = b"\x80\x02}(" + text("net") + b"ccollections\nOrderedDict\n)R(" + body + b"u" + text("acc")
    loaded += b"G" + struct.pack(">d", 91.25) + b"u."
    return begin + loaded + pickle.dumps(keys, protocol=2) + storages


def test_a_legacy_file_of_python_2_is_read():
    network = drawn(Renamed("B", STYLES["kuangliu"]))
    state = {f"module.{n}": t for n, t in network.state_dict().items() if t.dim()}
    Path("ckpt.t7").write_bytes(legacy(state))
    same(network, network_of(read_weights(Path("ckpt.t7"))))


def test_a_damaged_file_is_refused_wherever_it_is_cut_or_changed():
    torch.save({"net": STATE}, "whole.pt", _use_new_zipfile_serialization=False)
    whole, generator = Path("whole.pt").read_bytes(), np.random.default_rng(0)
    for place in generator.integers(0, 20_000, 60):
        Path("x.pt").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with contextlib.suppress(UserError):  # a weight may be another number
            network_of(read_weights(Path("x.pt")))


@pytest.mark.parametrize("dtype", ["F6_E2M3", "F4", "Q9", "U64"])
def test_safetensors_of_unknown_kinds_end_in_one_line(dtype):
    data = save({"conv1.weight": torch.zeros(16)})
    header = json.dumps({"conv1.weight": {"dtype": dtype, "shape": [64], "data_offsets": [0, 48]}}).encode()
    Path("x.pt").write_bytes(struct.pack("<Q", len(header)) + header + data[-48:])
    refused_file()
