"""The step against an ordinary PyTorch loop, the rows against hand calculation, and a run against its resumption."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from degradation import networks
from degradation.data.batches import Batches
from degradation.errors import DamagedError
from degradation.runtime.progress import silent
from degradation.spec import Measure, Recipe
from degradation.training.checkpoint import decode, encode
from degradation.training.evaluation import EvalSplit
from degradation.training.execute import check_fit
from degradation.training.lr_schedule import learning_rate
from degradation.training.trainer import RunCallbacks, Stopped, Training
from tests import made


def host(stop=lambda: False, save=lambda: None, save_seconds=1e9, keep=lambda step: None):
    return RunCallbacks(should_stop=stop, save=save, keep_snapshot=keep, save_seconds=save_seconds)


def trained(run, **images):
    training = Training(run, made.images(**images), made.CPU, silent)
    training.train(host())
    return training


def steps_of(training, frame):
    return set(training.frames()[frame].step)


def weights(training):
    return {name: tensor.clone() for name, tensor in training.state.network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def same_frames(a, b):
    one, other = a.frames(), b.frames()
    return one.keys() == other.keys() and all(one[name].equals(other[name]) for name in one)


def test_the_learning_rate_is_the_papers():
    recipe = Recipe(warmup_steps=400)
    steps = (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)
    assert [learning_rate(recipe, step) for step in steps] == [0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.1, betas=(0.9, 0.99), weight_decay=1e-4),
}


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_that_of_torchs_optimizer_on_the_same_batches(kind, optimizer):
    adam = {"learning_rate": 0.01, "warmup_learning_rate": 0.001, "beta2": 0.99} if optimizer == "adam" else {}
    run = made.run_spec(kind, steps=5, measure=Measure(probes=()), optimizer=optimizer, **adam)
    network = networks.for_run(run)
    batches = Batches(made.images(), run.recipe, run.seed, torch.device("cpu"))
    torchs = OPTIMIZERS[optimizer](network.parameters())
    for step in range(5):
        batches.ready(step)
        images, labels, _ = batches.fill(torch.tensor(step))
        for group in torchs.param_groups:
            group["lr"] = learning_rate(run.recipe, step)
        torchs.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        torchs.step()
    found = weights(trained(run))
    for name, expected in network.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_recorded_update_is_how_far_the_weights_moved(optimizer):
    run = made.run_spec(steps=4, measure=Measure(probe_every=1, snapshots=(0, 1, 2, 3)), optimizer=optimizer)
    kept = []
    training = Training(run, made.images(), made.CPU, silent)
    training.train(host(keep=lambda step: kept.append(weights(training))))
    rows = training.frames()["gradients"].set_index(["step", "name"]).update_norm
    for step in range(3):
        for name in ("conv1", "layer1.0.conv1", "fc"):
            moved = (kept[step + 1][f"{name}.weight"] - kept[step][f"{name}.weight"]).norm().item()
            assert rows[step, name] == pytest.approx(moved, rel=1e-3)


def test_a_measured_step_leaves_the_same_bits_as_one_without_probes():
    every_step, never = Measure(probe_every=1), Measure(probes=())
    measured, plain = (trained(made.run_spec(steps=6, measure=measure)) for measure in (every_step, never))
    assert same(weights(measured), weights(plain))
    assert int(measured.state.checksum) == int(plain.state.checksum)


def test_a_matched_pair_sees_the_same_order_and_another_seed_another():
    checksums = {
        (kind, seed): int(trained(made.run_spec(kind).model_copy(update={"seed": seed})).state.checksum)
        for kind in ("plain", "residual")
        for seed in (0, 1)
    }
    assert checksums["plain", 0] == checksums["residual", 0] != checksums["residual", 1]


def test_the_running_training_error_is_the_mean_over_the_batches_since_the_last_row():
    run = made.run_spec(steps=4, measure=Measure(probes=()))
    training = Training(run, made.images(), made.CPU, silent)
    training.row_steps = frozenset({0, 3, 4})
    errors, original = [], training.stepper._account

    def spy(loss, logits, labels, used):
        errors.append((logits.argmax(1) != labels).float().mean().item())
        original(loss, logits, labels, used)

    training.stepper._account = spy
    training.train(host())
    rows = [row for row in training.curves if row["split"] == "train_running"]
    assert [(row["step"], row["examples"]) for row in rows] == [(3, 48), (4, 16)]
    assert [row["error"] for row in rows] == pytest.approx([sum(errors[:3]) / 3, errors[3]])


def test_clean_error_with_running_statistics_is_that_of_a_naive_loop_in_evaluation_mode():
    training = trained(made.run_spec(steps=4), examples=50)
    images = made.images(examples=50)
    x = (torch.from_numpy(images.train.images).double() / 255).permute(0, 3, 1, 2)
    x = (x - torch.from_numpy(images.mean_image).double().permute(2, 0, 1)).float()
    with torch.no_grad():
        logits = copy.deepcopy(training.state.network).eval()(x)
    labels = torch.from_numpy(images.train.labels)
    row = next(r for r in training.curves if (r["step"], r["split"], r["statistics"]) == (4, "train", "running"))
    assert row["error"] == pytest.approx((logits.argmax(1) != labels).double().mean().item())
    assert row["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert row["examples"] == 50


def test_clean_error_with_batch_statistics_is_that_of_training_mode_on_each_batch():
    training = trained(made.run_spec(steps=4))
    reference = copy.deepcopy(training.state.network).train()
    total = sum(
        F.cross_entropy(reference(images), labels, reduction="sum").item()
        for images, labels in training.clean["test"](None)
    )
    found = training.evaluate(EvalSplit(batches=training.clean["test"]), "batch")
    assert found.loss == pytest.approx(total / 20, rel=1e-6)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_an_evaluation_leaves_the_network_untouched(statistics):
    training = trained(made.run_spec(steps=2))
    before = weights(training)
    training.evaluate(EvalSplit(batches=training.clean["train"]), statistics)
    assert same(before, weights(training))
    assert training.state.network.training
    assert all(module.training for module in training.state.network.modules())


def test_the_last_measurement_draws_a_batch_and_changes_nothing():
    training = Training(made.run_spec(steps=3), made.images(), made.CPU, silent)
    snapshots = {}
    training.train(host(keep=lambda step: None))
    run = training.run.model_copy(update={"measure": Measure(probes=())})
    assert same(weights(training), weights(trained(run)))
    assert steps_of(training, "gradients") == {0, 1, 2, 3}
    assert not snapshots


def test_evaluation_rows_begin_after_the_first_update_and_end_on_the_whole_set():
    measure = Measure(eval_every=2, eval_examples=16)
    training = trained(made.run_spec(steps=5, measure=measure), val=24)
    found = [(r["step"], r["split"], r["examples"]) for r in training.curves if r["statistics"] == "running"]
    sizes = {"train": 48, "val": 24, "test": 20}
    on_the_way = [(step, split, 16) for step in (2, 4) for split in sizes]
    assert found == [*on_the_way, *((5, split, size) for split, size in sizes.items())]


def test_snapshots_are_kept_at_their_steps():
    kept = []
    training = Training(made.run_spec(steps=4, measure=Measure(snapshots=(0, 3))), made.images(), made.CPU, silent)
    training.train(host(keep=kept.append))
    assert kept == [0, 3]


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1, 3, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_continued_from_a_checkpoint_equals_an_uninterrupted_one(at, optimizer):
    run = made.run_spec(steps=6, measure=Measure(eval_every=2), optimizer=optimizer)
    whole = trained(run)
    first = Training(run, made.images(), made.CPU, silent)
    with pytest.raises(Stopped):
        first.train(host(stop=lambda: first.position == at))
    second = Training(run, made.images(), made.CPU, silent)
    second.resume(decode(encode(first.checkpoint())))
    second.train(host())
    assert same(weights(second), weights(whole))
    assert same_frames(second, whole)
    assert second.final_facts()["order_checksum"] == whole.final_facts()["order_checksum"]


def test_a_stop_during_an_evaluation_leaves_no_trace_of_it():
    run = made.run_spec(steps=4, measure=Measure(eval_every=2))
    whole, asked = trained(run), []

    def stop():
        asked.append(1)
        return len(asked) == 5  # steps 0, 1, 2, then inside the evaluation at step 2

    first = Training(run, made.images(), made.CPU, silent)
    with pytest.raises(Stopped):
        first.train(host(stop=stop))
    assert first.position == 2
    second = Training(run, made.images(), made.CPU, silent)
    second.resume(decode(encode(first.checkpoint())))
    second.train(host())
    assert same_frames(second, whole)


def test_a_checkpoint_with_one_changed_byte_is_refused():
    training = Training(made.run_spec(), made.images(), made.CPU, silent)
    data = bytearray(encode(training.checkpoint()))
    data[len(data) // 2] ^= 1
    with pytest.raises(DamagedError):
        decode(bytes(data))
    with pytest.raises(DamagedError):
        decode(bytes(data[:100]))
    with pytest.raises(DamagedError):
        decode(b"")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"dtype":"F32"', b'"dtype":"I32"'), (b'"shape":[16,3,3,3]', b'"shape":[3,16,3,3]'), (b"plain", b"plein")],
)
def test_a_checkpoint_with_another_type_shape_or_name_in_its_header_is_refused(old, new):
    """All of these load, with the bytes that were written."""
    training = Training(made.run_spec("plain"), made.images(), made.CPU, silent)
    data = encode(training.checkpoint())
    assert old in data
    for place in (data.index(old), data.rindex(old)):
        changed = data[:place] + new + data[place + len(old) :]
        with pytest.raises(DamagedError, match="does not hold what was written"):
            decode(changed)


def test_a_checkpoint_of_other_tensors_than_this_version_keeps_does_not_fit():
    run = made.run_spec()
    checkpoint = Training(run, made.images(), made.CPU, silent).checkpoint()
    check_fit(run, checkpoint)
    sums = checkpoint.tensors.pop("sums")
    for other in ({}, {"sums": sums.double()}, {"sums": sums[:1]}):
        with pytest.raises(DamagedError, match="different sums than this version"):
            check_fit(run, replace(checkpoint, tensors=checkpoint.tensors | other))


def test_an_evaluation_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr("degradation.training.trainer.REPORT_SECONDS", 0.0)
    said = []
    run = made.run_spec(steps=6, measure=Measure(eval_every=6, probes=()))
    training = Training(run, made.images(), made.CPU, said.append)
    training.train(host())
    parts = [progress.part for progress in said if progress.phase == "evaluating" and progress.step == 6]
    # 48 training images in three batches, 20 test images in two; each with both kinds of statistics.
    assert parts == [(done, 10) for done in range(10)]


def test_a_diverging_run_ends_with_the_step_and_without_the_rows_behind_it():
    run = made.run_spec(steps=40, learning_rate=1e30, warmup_steps=3, measure=Measure(probe_every=5, eval_every=5))
    training = trained(run)
    step = training.diverged_step
    assert step is not None
    assert 3 < step < 40
    assert max(row["step"] for row in training.curves) <= step
    assert max(steps_of(training, "gradients")) <= step
    assert training.final_facts()["diverged_step"] == step


def test_bf16_keeps_fp32_weights_and_trains_another_way():
    environment = made.CPU.__class__(device="cpu", precision="bf16", threads=1)
    training = Training(made.run_spec(steps=3), made.images(), environment, silent)
    training.train(host())
    assert {tensor.dtype for tensor in training.state.weights} == {torch.float32}
    assert not same(weights(training), weights(trained(made.run_spec(steps=3))))
