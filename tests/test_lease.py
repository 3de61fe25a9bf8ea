"""The lock of a store that has none: one holder at a time, whatever processes do between two requests."""

import json
import threading
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from degradation.errors import LockLost
from degradation.runtime.progress import silent
from degradation.store import StudyFolder, Url, lease, remote, store_at
from degradation.store.lease import Lease
from degradation.store.objects import Objects
from degradation.training.execute import execute
from tests import made, made_stores

s3_server, s3_root, memory_root = made_stores.s3_server, made_stores.s3_root, made_stores.memory_root


@pytest.fixture(params=["memory", "s3"])
def objects(request):
    return Objects(Url(request.getfixturevalue(f"{request.param}_root")))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def names(objects):
    return sorted(name for name in objects.below("s/r") if ".lease-" in name)


def test_a_lease_is_taken_again_when_it_has_expired_and_no_sooner(objects, clock):
    first, second = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    assert first.take()
    clock.now += lease.TTL - 1
    assert not second.take()
    assert second.is_live()
    clock.now += 2
    assert not second.is_live()
    assert second.take()
    assert names(objects) == [".lease-2"]


@pytest.mark.slow
def test_a_renewed_lease_does_not_expire(objects, clock):
    first, second = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    assert first.take()
    for _ in range(10):
        clock.now += lease.TTL / 2
        first.renew()
        assert not second.take()


def test_a_released_lease_is_free_at_once_and_its_number_does_not_come_back(objects, clock):
    for number in (1, 2, 3):
        holder = Lease(objects, "s/r", clock)
        assert holder.take()
        holder.release()
        assert names(objects) == [f".lease-{number}"]


def test_who_was_overtaken_finds_it_out_and_leaves_the_other_alone(objects, clock):
    first, second = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    first.take()
    clock.now += lease.TTL + 1
    assert second.take()
    for _ in range(2):
        with pytest.raises(LockLost):
            first.confirm()
    with pytest.raises(LockLost):
        first.renew()
    first.release()
    assert second.is_live()
    second.confirm()


def test_who_was_overtaken_because_clocks_differ_finds_it_out_at_the_next_renewal(objects, clock):
    ahead = Clock()
    ahead.now += lease.TTL + 1
    first, second = Lease(objects, "s/r", clock), Lease(objects, "s/r", ahead)
    first.take()
    assert second.take()
    with pytest.raises(LockLost):
        first.renew()
    second.confirm()


def test_who_was_silent_too_long_goes_on_where_nobody_came_between(objects, clock):
    first, second = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    first.take()
    clock.now += 10 * lease.TTL
    first.confirm()
    assert not second.take()
    clock.now += 10 * lease.TTL
    assert second.take()
    second.release()  # came and went
    with pytest.raises(LockLost):
        first.confirm()


def test_of_two_that_saw_the_same_expired_lease_one_wins(objects, clock, monkeypatch):
    Lease(objects, "s/r", clock).take()
    clock.now += lease.TTL + 1
    quick, slow = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    create, won = objects.create, []

    def overtaken(name, data):
        monkeypatch.setattr(objects, "create", create)
        won.append(quick.take())  # between the look of the slow one and its creation
        return create(name, data)

    monkeypatch.setattr(objects, "create", overtaken)
    assert (slow.take(), won) == (False, [True])


def test_who_slept_while_others_came_and_went_does_not_win(objects, clock, monkeypatch):
    Lease(objects, "s/r", clock).take()
    clock.now += lease.TTL + 1
    slow, last = Lease(objects, "s/r", clock), Lease(objects, "s/r", clock)
    create = objects.create

    def overtaken(name, data):
        monkeypatch.setattr(objects, "create", create)
        passing = Lease(objects, "s/r", clock)
        assert passing.take()
        passing.release()
        assert last.take()
        return create(name, data)  # its number is free again, and too low

    monkeypatch.setattr(objects, "create", overtaken)
    assert not slow.take()
    last.confirm()
    last.renew()


def test_a_lease_whose_answer_got_lost_is_held(objects, clock, monkeypatch):
    first, create = Lease(objects, "s/r", clock), objects.create

    def cut_off(name, data):
        create(name, data)
        raise ConnectionResetError

    monkeypatch.setattr(objects, "create", cut_off)
    with pytest.raises(ConnectionResetError):
        first.take()
    monkeypatch.setattr(objects, "create", create)
    assert first.take()
    first.renew()


ACTS = ("take", "renew", "confirm", "release", "sleep", "sleep long")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ACTS)), max_size=30), st.uuids())
def test_no_two_ever_believe_that_they_hold_it(acts, unique):
    clock, objects = Clock(), Objects(Url(f"memory://{unique}"))
    takers = [Lease(objects, "r", clock) for _ in range(3)]
    holding: set[int] = set()
    for who, act in acts:
        if act.startswith("sleep"):
            clock.now += lease.TTL * (2 if act == "sleep long" else 0.3)
        elif act == "take" and who not in holding:
            takers[who] = Lease(objects, "r", clock)
            holding |= {who} if takers[who].take() else set()
        elif who in holding and act == "release":
            takers[who].release()
            holding -= {who}
        elif who in holding:
            try:
                getattr(takers[who], act)()
            except LockLost:
                holding -= {who}
        assert sum(clock() < takers[each].believed for each in holding) <= 1


def test_of_many_threads_one_wins(memory_root, monkeypatch):
    exists = MemoryFileSystem.exists
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *given: (exists(*given), time.sleep(0.02))[0])
    stores, won = [store_at(memory_root) for _ in range(8)], []
    start, done = threading.Barrier(8), threading.Barrier(8)

    def work(store):
        start.wait()
        with store.lock("r") as held:
            won.append(held)
            done.wait()

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


# what it does for a run


def test_a_lost_lease_stops_every_write_into_the_folder(s3_root):
    folder = StudyFolder(s3_root, "s")
    with folder.lock("r") as held:
        assert held
        folder.write_spec("r", {})
        overtake(folder, "r")
        for act in (
            lambda: folder.write_checkpoint("r", b"c"),
            lambda: folder.commit("r", "finished", {}),
            lambda: folder.remove_run("r"),
        ):
            with pytest.raises(LockLost, match=r"s/r: another process has taken over"):
                act()
        folder.store.write("s/study.json", b"{}")  # not that folder
    assert folder.checkpoint("r") is None
    assert not folder.is_done("r")
    assert folder.is_locked("r")


def overtake(folder, run_id):
    """Another process takes a run whose holder was silent; the holder's own clock has gone on as well."""
    [mine] = folder.store._leases.values()
    mine.expires = 0.0
    folder.store.objects.put(f"{folder.name}/{run_id}/.lease-1", b"{}")
    assert Lease(folder.store.objects, f"{folder.name}/{run_id}").take()


def test_a_run_whose_lease_is_lost_ends_as_held_and_leaves_the_checkpoint_of_the_other(memory_root):
    folder, run = StudyFolder(memory_root, "s"), made.run_spec(steps=6)

    def report(progress):
        if progress.phase == "evaluate" and folder.checkpoint(run.run_id) is None:
            overtake(folder, run.run_id)
            folder.store.objects.put(f"s/{run.run_id}/checkpoint.safetensors", b"of the other")

    assert execute(run, folder, made.CPU, report, save_seconds=1e9) == "held"
    assert folder.checkpoint(run.run_id) == b"of the other"
    assert not folder.is_done(run.run_id)
    assert execute(run, StudyFolder(memory_root, "s"), made.CPU, silent) == "held"


def test_a_held_lease_is_renewed_by_itself(s3_root, monkeypatch):
    monkeypatch.setattr(lease, "TTL", 2.0)
    folder = StudyFolder(s3_root, "s")
    with folder.lock("r"):
        began, until = expiry(folder), time.monotonic() + 20
        while expiry(folder) <= began and time.monotonic() < until:
            time.sleep(0.05)
        assert expiry(folder) > began


def expiry(folder):
    """When the lease of run r expires."""
    [name] = names(folder.store.objects)
    return json.loads(folder.store.read(f"s/r/{name}"))["expires"]


def test_the_lease_of_a_dead_process_expires(s3_root, monkeypatch):
    monkeypatch.setattr(lease, "TTL", 0.6)
    monkeypatch.setattr(remote, "ASK_SECONDS", 0.05)
    folder = StudyFolder(s3_root, "s")
    assert Lease(folder.store.objects, "s/r").take()  # and never renewed
    assert folder.is_locked("r")
    with folder.store.lock("s/r", timeout=5) as held:
        assert held


def test_a_lease_names_its_holder_and_nothing_secret(s3_root):
    folder = StudyFolder(s3_root, "s")
    with folder.lock("r"):
        terms = json.loads(folder.store.read("s/r/.lease-1"))
    assert set(terms) == {"holder", "host", "expires"}
    assert "for-a-test" not in str(terms)
