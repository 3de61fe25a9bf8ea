"""`degradation.record` in loops with more in them: mixed precision, accumulation, compilation, several processes."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import degradation
from degradation.recording import buffer

pytestmark = pytest.mark.slow

GRADIENTS = ["weight_grad_norm", "weight_norm", "response_grad_norm", "response_grad_rms"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, 2)
    )


def batch(step=0):
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(step))


def loss_of(outputs):
    return outputs.square().mean()


def recorded(model, call=None, steps=4, every=1):
    call = call or model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            optimizer.zero_grad()
            loss_of(call(batch(step))).backward()
            optimizer.step()
    return rec


def same(one, other, rtol=1e-5):
    assert list(one.frames) == list(other.frames)
    for name in one.frames:
        left, right = one.frame(name), other.frame(name)
        assert list(left["name"]) == list(right["name"])
        numbers = left.select_dtypes("number").columns
        np.testing.assert_allclose(left[numbers], right[numbers], rtol=rtol, atol=1e-6)


def test_gradients_are_without_the_factor_of_a_scaler():
    plain = recorded(network(), steps=2)
    model = network()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu", init_scale=1024.0)
    with degradation.record(model, every=1) as rec:
        for step in range(2):
            optimizer.zero_grad()
            scaler.scale(loss_of(model(batch(step)))).backward()
            scaler.step(optimizer)
            scaler.update()
    same(rec, plain, rtol=1e-4)


def test_under_autocast_the_norms_are_those_of_the_gradients_that_arrive():
    model = network()
    with degradation.record(model, every=1) as rec:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model(batch()).float())
        loss.backward()
    exact = recorded(network(), steps=1)
    frame = rec.frame("gradients")
    assert list(frame["weight_grad_norm"]) == pytest.approx([model[n].weight.grad.norm().item() for n in (0, 4, 5)])
    np.testing.assert_allclose(rec.frame("responses")["std"], exact.frame("responses")["std"], rtol=0.02)


def test_with_accumulation_each_step_has_the_gradient_of_its_own_loss():
    alone = []
    for step in range(2):
        model = network()
        loss_of(model(batch(step))).backward()
        alone.append(model[4].weight.grad.norm().item())
    model = network()
    with degradation.record(model, every=1) as rec:
        for step in range(2):
            loss_of(model(batch(step))).backward()
    frame = rec.frame("gradients").query("name == '4'")
    assert list(frame["weight_grad_norm"]) == pytest.approx(alone, rel=1e-4)
    assert frame["update_norm"].isna().all()
    assert model[4].weight.grad.norm().item() != pytest.approx(alone[1], rel=1e-2)


def compiled_counts():
    return dict(torch._dynamo.utils.counters["graph_break"]), torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("order", ["compiled before", "compiled within", "in place", "a part"])
def test_a_compiled_network_gives_the_same_numbers_and_no_graph_breaks(order):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    expected, model = recorded(network(), steps=5, every=2), network()
    compiled = {"backend": "aot_eager", "fullgraph": True}
    if order == "compiled before":
        outer = torch.compile(model, **compiled)
        found = recorded(outer, steps=5, every=2)
    elif order == "compiled within":
        calls = []

        def call(x):
            calls[:] = calls or [torch.compile(model, **compiled)]
            return calls[0](x)

        found = recorded(model, call, steps=5, every=2)
    elif order == "in place":
        model.compile(**compiled)
        found = recorded(model, steps=5, every=2)
    else:
        inner = torch.compile(nn.Sequential(model[0], model[1]), **compiled)
        model[0], model[1] = inner, nn.Identity()
        found = recorded(model, steps=5, every=2)
        assert list(found.frame("gradients")["name"].unique()) == ["0.0", "4", "5"]
        assert compiled_counts() == ({}, 1)
        return
    same(found, expected, rtol=1e-4)
    assert compiled_counts() == ({}, 1)
    assert not found.notes


def test_two_recordings_that_end_in_any_order_leave_a_network_compiled():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    one, other = network(), network()
    compiled = torch.compile(one, backend="aot_eager", fullgraph=True)
    first, second = degradation.record(one, every=100), degradation.record(other, every=100)
    first.__enter__(), second.__enter__()
    for step in range(2):
        loss_of(compiled(batch(step))).backward()
        loss_of(other(batch(step))).backward()
    first.__exit__(None, None, None), second.__exit__(None, None, None)
    assert len(first.frame("responses")) == len(second.frame("responses")) == 3
    compiled(batch())
    assert compiled_counts() == ({}, 1)


def test_a_step_compiled_as_a_whole_is_measured_too():
    torch._dynamo.reset()
    model = network()

    @torch.compile(backend="eager")
    def step(x):
        loss_of(model(x)).backward()

    with degradation.record(model, every=2) as found:
        for number in range(5):
            step(batch(number))
    other = network()
    with degradation.record(other, every=2) as expected:
        for number in range(5):
            loss_of(other(batch(number))).backward()
    same(found, expected, rtol=1e-4)


def test_a_step_whose_graph_would_break_is_not_measured_and_that_is_said(monkeypatch):
    def refused(stance):
        raise RuntimeError("attempted to set_stance in a torch.compile region")

    def loop(rec):
        with rec:
            loss_of(model(batch())).backward()
            monkeypatch.setattr(torch.compiler, "set_stance", refused)
            for number in range(5):
                loss_of(model(batch(number))).backward()

    model = network()
    rec = degradation.record(model, every=2)
    with pytest.warns(UserWarning, match="hooks would break its graph"):
        loop(rec)
    assert list(rec.frame("gradients")["step"].unique()) == [0]
    [note] = rec.notes
    assert note in rec.summary()
    assert all(not module._forward_hooks for module in model.modules())


def test_a_checkpointed_forward_is_measured_once():
    class Checkpointed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    parts = nn.Sequential(nn.Linear(192, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    x = batch().flatten(1)
    with degradation.record(parts, every=1) as expected:
        loss_of(parts(x)).backward()
    with degradation.record(Checkpointed(parts), every=1) as found:
        loss_of(found._network(x)).backward()
    columns = ["mean", "std", "zero_fraction"]
    np.testing.assert_allclose(found.frame("responses")[columns], expected.frame("responses")[columns], rtol=1e-5)
    np.testing.assert_allclose(found.frame("gradients")[GRADIENTS], expected.frame("gradients")[GRADIENTS], rtol=1e-5)


def test_a_gradient_penalty_within_the_step_does_not_count_as_the_gradient():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(5, 3, requires_grad=True)
    with degradation.record(model, every=1) as rec:
        outputs = model(x)
        [inner] = torch.autograd.grad(outputs.sum() * 100, x, create_graph=True)
        outputs.sum().backward()
    assert inner.abs().sum() > 0
    last = rec.frame("gradients").query("name == '2'")
    assert last["response_grad_norm"].iloc[0] == pytest.approx(math.sqrt(5), rel=1e-5)
    assert list(rec.frame("gradients")["step"]) == [0, 0]


def test_a_paused_recording_counts_no_step_of_another_network():
    def duel(pause):
        torch.manual_seed(0)
        maker, judge = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        rec, alone = degradation.record(judge, every=1), []
        with rec, degradation.record(maker, every=1) as made:
            for step in range(3):
                z = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
                judge.zero_grad()
                (judge(maker(z).detach()).mean() - judge(torch.ones(5, 4)).mean()).backward()
                alone.append(judge[0].weight.grad.norm().item())
                with rec.paused() if pause else nullcontext():
                    judge(maker(z)).square().mean().backward()
        return rec, made, alone

    rec, made, alone = duel(pause=True)
    frame = rec.frame("gradients").query("name == '0'")
    assert list(frame["weight_grad_norm"]) == pytest.approx(alone, rel=1e-5)
    assert (rec.step, made.step) == (3, 3)
    assert duel(pause=False)[0].step == 6


def process(rank, port, folder):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = network()
    wrapped = nn.parallel.DistributedDataParallel(model)
    with degradation.record(wrapped, every=1) as rec:
        loss_of(wrapped(batch(rank))).backward()
    rec.frame("gradients").to_csv(f"{folder}/{rank}.csv")
    torch.save(model[4].weight.grad, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_under_data_parallel_each_process_records_its_own_share(tmp_path):
    import socket

    import pandas as pd

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, args=(port, str(tmp_path)), nprocs=2)
    alone = []
    for rank in range(2):
        model = network()
        loss_of(model(batch(rank))).backward()
        alone.append(model[4].weight.grad)
        frame = pd.read_csv(tmp_path / f"{rank}.csv").set_index("name")
        assert list(frame.index) == [0, 4, 5]
        assert frame.loc[4, "weight_grad_norm"] == pytest.approx(alone[rank].norm().item(), rel=1e-4)
        assert math.isfinite(frame.loc[0, "response_grad_norm"])
    averaged = torch.load(tmp_path / "0.pt", weights_only=True)
    torch.testing.assert_close(averaged, (alone[0] + alone[1]) / 2)


def test_the_kept_steps_are_bounded_and_spread_over_all(monkeypatch):
    monkeypatch.setattr(buffer, "LIMIT", 6)
    rec = recorded(network(), steps=30, every=1)
    steps = sorted(rec.frame("gradients")["step"].unique())
    assert len(steps) <= 6
    assert steps == list(range(0, 30, rec.every))
    assert rec.every == 8
    assert "at most 6 measured steps are kept: every=1 became every=8" in rec.summary()
    assert len(rec.frame("responses")) == 3 * len(steps)


def test_no_tensor_of_the_network_is_kept():
    import gc
    import weakref

    model = network()
    kept = []
    model[0].register_forward_hook(lambda _m, _i, output: kept.append(weakref.ref(output)))
    with degradation.record(model, every=1) as rec:
        loss_of(model(batch())).backward()
        gc.collect()
        assert [ref() for ref in kept] == [None]
    assert len(rec.frame("gradients")) == 3
