"""A batch in parts, in one process: batch norm, running statistics, probes and dropout; what processes cannot share."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from degradation import networks
from degradation.data.batches import Batches
from degradation.errors import UserError
from degradation.networks.variants import dropout_mask
from degradation.probes import PROBE_REGISTRY, Measurement, Taps
from degradation.runtime.distributed import Processes, check_shares, here, launching
from degradation.runtime.environment import Options, choose_environment, choose_jobs, cores
from degradation.runtime.progress import silent
from degradation.spec import Measure, Recipe, grid
from degradation.study.library import stored
from degradation.training.ghost_batches import GhostBatches
from degradation.training.lr_schedule import learning_rate
from degradation.training.process_group import ProcessGroup
from degradation.training.trainer import Training
from tests import made
from tests.calling import Command, command, trained  # noqa: F401

pytestmark = pytest.mark.slow

TORCHRUN = {
    "RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3",
    "MASTER_ADDR": "localhost", "MASTER_PORT": "1",
}  # fmt: skip


def run_spec(parts: int, **fields):
    return made.run_spec(steps=4, ghost_batches=parts, **fields)


@pytest.fixture
def three_processes(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)


# One process, several parts


def test_ghost_batches_are_normalized_by_themselves_and_the_running_statistics_are_their_mean():
    run = run_spec(4, measure=Measure(probes=()))
    training = Training(run, made.images(), made.CPU, silent)
    network = networks.for_run(run)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches = Batches(made.images(), run.recipe, run.seed, torch.device("cpu"))
    for step in range(4):
        for each in (training.batches, batches):
            each.ready(step)
        training.stepper.train()
        images, labels, _ = batches.fill(torch.tensor(step))
        optimizer.param_groups[0]["lr"] = learning_rate(run.recipe, step)
        optimizer.zero_grad()
        before, after = network.bn1.running_var.clone(), []
        for part in range(4):
            network.bn1.running_var.copy_(before)
            rows = slice(4 * part, 4 * part + 4)
            (F.cross_entropy(network(images[rows]), labels[rows]) / 4).backward()
            after.append(network.bn1.running_var.clone())
        network.bn1.running_var.copy_(torch.stack(after).mean(0))
        optimizer.step()
    for found, expected in zip(training.state.weights, network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found = training.state.network.bn1
    torch.testing.assert_close(found.running_var, network.bn1.running_var, rtol=1e-4, atol=1e-5)
    assert int(found.num_batches_tracked) == 4


def test_ghost_batches_change_the_outcome_and_neither_order_nor_first_weights():
    one, two = (Training(run_spec(parts), made.images(), made.CPU, silent) for parts in (1, 2))
    for training in (one, two):
        training.batches.ready(0)
        training.stepper.train()
    assert one.facts["weight_hash"] == two.facts["weight_hash"]
    assert int(one.state.checksum) == int(two.state.checksum)
    assert not torch.equal(one.state.weights[0], two.state.weights[0])


def test_clean_errors_are_evaluated_in_batches_of_what_batch_norm_saw_in_training():
    training = Training(run_spec(4), made.images(), made.CPU, silent)
    assert [len(labels) for _, labels in training.clean["test"](None)] == [4, 4, 4, 4, 4]


def outputs_of(images, network):
    names = [name for probe in PROBE_REGISTRY.values() for name in probe.needs(network.layout)]
    with Taps(network, names) as taps:
        loss = F.cross_entropy(network(images), torch.zeros(len(images), dtype=torch.int64))
    wanted = PROBE_REGISTRY["gradients"].needs(network.layout)
    found = torch.autograd.grad(loss / 3, [taps.outputs[name] for name in wanted])
    return {name: output.detach() for name, output in taps.outputs.items()}, dict(zip(wanted, found, strict=True))


@pytest.mark.parametrize("probe", PROBE_REGISTRY.values(), ids=lambda probe: probe.frame)
def test_readings_of_parts_are_pooled_to_those_of_all_their_values(probe):
    network = networks.network("residual", 8).eval()  # in training mode every part would come out with the same std
    weights = tuple(network.get_submodule(layer.name).weight.detach() for layer in network.layout.layers)

    def seen(outputs, gradients):
        # Without what batch norm knows of its output: its values are measured, in the whole as in the parts.
        same = {"layout": network.layout, "normalized": {}, "weights": weights, "weight_gradients": weights}
        return Measurement(outputs=outputs, output_gradients=gradients, updates=weights, **same)

    parts = [outputs_of(torch.randn(4, 3, 8, 8, generator=torch.manual_seed(s)) * (s + 1), network) for s in range(3)]
    whole = seen(*({name: torch.cat([part[i][name] for part in parts]) for name in parts[0][i]} for i in (0, 1)))
    pooled = probe.pool(torch.stack([probe.measure(seen(*part)) for part in parts]))
    torch.testing.assert_close(pooled, probe.measure(whole), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_parts_drop_what_the_whole_batch_would():
    whole = dropout_mask(torch.empty(6, 2, 3, 3), torch.tensor(12345), torch.tensor(7), 0.3)
    parts = [
        dropout_mask(torch.empty(2, 2, 3, 3), torch.tensor(12345), torch.tensor(7), 0.3, torch.tensor(r))
        for r in (0, 2, 4)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(parts[0], parts[1])


def test_rows_of_a_batch_that_are_filled_apart_are_those_of_the_batch():
    recipe, images = Recipe(batch=16, padding=1), made.images()
    whole, first, second = (
        Batches(images, recipe, 0, torch.device("cpu"), rows) for rows in (None, range(6), range(6, 16))
    )
    filled = []
    for batches in (whole, first, second):
        batches.ready(2)
        filled.append(batches.fill(torch.tensor(2)))
    for kind in (0, 1):
        assert torch.equal(torch.cat([filled[1][kind], filled[2][kind]]), filled[0][kind])
    assert filled[1][2] + filled[2][2] == filled[0][2]


def test_a_run_that_other_processes_continue_says_so():
    run = run_spec(2)
    first = Training(run, made.images(), made.CPU, silent)
    first.position = 3
    two = Processes(count=2, local_count=2)
    second = Training(run, made.images(), replace(made.CPU, processes=2), silent, ProcessGroup(processes=two))
    second.resume(first.checkpoint())
    assert second.facts["provenance"]["continued"] == "by 2 processes from step 3"
    first.resume(first.checkpoint())
    assert "continued" not in first.facts["provenance"]


# What processes can share


@pytest.mark.parametrize(
    ("ghosts", "processes", "norm", "expected"),
    [
        (4, 2, "batch", (4, 2)), (2, 2, "batch", (2, 1)), (4, 1, "batch", (4, 4)),
        (1, 2, "none", (2, 1)), (3, 2, "none", (2, 1)),
    ],
)  # fmt: skip
def test_each_process_has_as_many_parts_and_rows(ghosts, processes, norm, expected):
    run = made.run_spec(ghost_batches=ghosts, batch=12).model_copy(update={"norm": norm})
    shares = [
        GhostBatches.of(run, ProcessGroup(processes=Processes(rank=rank, count=processes))) for rank in range(processes)
    ]
    count, own = expected
    assert {share.count for share in shares} == {count}
    assert [row for share in shares for row in share.rows] == list(range(12))
    labels = torch.zeros(12 // processes, dtype=torch.int64)
    assert len(list(shares[-1].split(labels, labels))) == own


@pytest.mark.parametrize(
    ("fields", "count", "sync", "message"),
    [
        ({"ghost_batches": 1}, 3, False, r"3 processes: recipe.batch 16 cannot be divided"),
        ({"ghost_batches": 1}, 2, False, r"--set recipe.ghost_batches=2"),
        ({"ghost_batches": 2}, 4, False, r"is 2 in this study and no multiple of 4"),
        ({"ghost_batches": 2}, 2, True, r"--sync-batch-norm normalizes over the whole batch"),
    ],
)
def test_what_processes_cannot_share_is_refused(fields, count, sync, message):
    with pytest.raises(UserError, match=message):
        check_shares(made.run_spec(**fields), count, sync)


def test_what_processes_can_share_is_not_refused():
    check_shares(made.run_spec(ghost_batches=4), 2, False)
    check_shares(made.run_spec(), 1, False)
    check_shares(made.run_spec(), 2, True)
    check_shares(made.run_spec().model_copy(update={"norm": "none"}), 2, False)


def test_a_batch_has_ghost_batches_of_equally_many_images():
    assert Recipe(batch=12, ghost_batches=3).normalized_together == 4
    for wrong in ({"batch": 10, "ghost_batches": 3}, {"batch": 4, "ghost_batches": 4}):
        with pytest.raises(ValueError, match="cannot be divided into ghost_batches"):
            Recipe(**wrong)


# What torchrun says


def test_without_all_of_torchruns_variables_a_process_is_alone():
    assert here(TORCHRUN) == Processes(rank=0, count=3, local_rank=0, local_count=3)
    assert here({name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}) == Processes()


def test_the_way_to_continue_names_torchrun():
    assert launching(Processes()) == "degradation"
    assert launching(Processes(count=2, local_count=2)) == "torchrun --nproc-per-node 2 -m degradation"
    assert launching(Processes(count=4, local_count=2)) == "torchrun --nproc-per-node 2 ... -m degradation"


def test_processes_share_the_cores_and_train_one_run_at_a_time(three_processes, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(7)))
    assert cores() == 2
    assert choose_jobs(Options(), 8) == 1
    with pytest.raises(UserError, match="--jobs 2: torchrun's processes train one run at a time"):
        choose_jobs(Options(jobs=2), 8)
    environment = choose_environment(Options(device="cpu"), "fp32", 1)
    assert (environment.processes, environment.backend, environment.capture) == (3, "gloo", False)


def test_synchronized_batch_norm_is_refused_without_cuda(three_processes):
    with pytest.raises(UserError, match="synchronized batch norm on CUDA only, not on device cpu"):
        choose_environment(Options(device="cpu", sync_batch_norm=True), "fp32", 1)


def test_a_captured_step_is_refused_for_several_processes(three_processes):
    with pytest.raises(UserError, match="--capture: a step that several processes share"):
        choose_environment(Options(device="cpu", capture=True), "fp32", 1)


def test_processes_that_are_not_connected_do_not_train(three_processes, tmp_path):
    from degradation.store import StudyFolder
    from degradation.training.execute import execute

    environment = choose_environment(Options(device="cpu"), "fp32", 1)
    with pytest.raises(RuntimeError, match="are not connected"):
        execute(made.run_spec(ghost_batches=3, batch=15), StudyFolder(tmp_path, "s"), environment, silent)


class NotConnecting:
    """Stands for the processes of torchrun where only what the first one says is tested."""

    def __enter__(self):
        return True

    def __exit__(self, *_):
        return None


TINY = ["run", "--dataset", "synthetic", "--depths", "8", "--steps", "50", "--no-figures"]


def test_a_new_study_has_a_ghost_batch_for_each_process_and_says_so(
    three_processes, command: Command, trained, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr("degradation.training.coordinator.leading", NotConnecting)
    said = command(*TINY, "--set", "recipe.batch=120", "--name", "s")
    assert said.status == 0
    assert "recipe.ghost_batches = 3" in said.out
    from degradation.store import StudyFolder

    assert {run.recipe.ghost_batches for run in grid.runs(stored(StudyFolder("runs", "s")))} == {3}
    said = command(*TINY, "--name", "other")
    assert said.status == 2
    assert said.err.startswith("degradation: 3 processes: batch 128 cannot be divided into ghost_batches 3")


def test_the_same_words_in_one_process_mean_the_study_that_several_began(command: Command, tmp_path):  # noqa: F811
    begun = command(*TINY, "--set", "recipe.ghost_batches=2", "--name", "s")
    assert begun.status == 0
    said = command("plan", *TINY[1:-1], "--name", "s", "--json")
    assert said.json["study"]["recipe"]["ghost_batches"] == 2
    assert {run["state"] for run in said.json["runs"]} == {"done"}
    said = command("plan", *TINY[1:-1], "--set", "recipe.ghost_batches=1", "--name", "s")
    assert (said.status, "has recipe.ghost_batches = 2, asked was 1" in said.err) == (2, True)


@pytest.mark.parametrize("arguments", [["studies"], ["plan", "quickstart"], ["run", "--no-such"], ["run", "--help"]])
def test_all_processes_but_the_first_are_silent(three_processes, command: Command, monkeypatch, arguments):  # noqa: F811
    monkeypatch.setenv("RANK", "1")
    said = command(*arguments)
    assert (said.out, said.err) == ("", "")
