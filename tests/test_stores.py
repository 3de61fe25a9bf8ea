"""Every store does the same: a folder on a disk, memory://, and s3:// on a server of this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from degradation.errors import DamagedError, UserError
from degradation.launchers import runner
from degradation.store import StudyFolder, Url, as_place, folder_at, store_at
from degradation.study.library import locate, on_disk
from degradation.study.snapshot import StudySnapshot
from degradation.study.status import run_statuses
from tests import calling, made, made_stores
from tests.made_frames import write_run

command = calling.command
root, store = made_stores.root, made_stores.store
s3_server, s3_root, memory_root = made_stores.s3_server, made_stores.s3_root, made_stores.memory_root


@pytest.mark.slow
def test_a_file_is_what_was_last_written(store):
    with pytest.raises(FileNotFoundError):
        store.read("s/r/a")
    store.write("s/r/a", b"first and longer")
    store.write("s/r/a", b"second")
    assert store.read("s/r/a") == b"second"


def test_what_is_there_is_listed_and_nothing_else(store):
    assert store.list("s") == () == store.list()
    assert not store.exists("s")
    for name in ("s/b/.hidden", "s/b/z", "s/b/deep/y", "s/a/x", "s/file", "s2/other"):
        store.write(name, b"12")
    assert store.list("s") == ("a", "b", "file")
    assert store.list() == ("s", "s2")
    assert dict(store.below("s")) == dict.fromkeys(("a/x", "b/.hidden", "b/deep/y", "b/z", "file"), 2)
    assert dict(store.tree("s")) == {"a": {"x"}, "b": {".hidden", "deep", "z"}}
    assert store.exists("s/b")
    assert store.exists("s/file")
    assert not store.exists("s/fil")
    assert (store.size("s"), store.size("s/a/x"), store.size("none")) == (10, 2, 0)


def test_what_is_removed_is_gone_and_its_neighbours_stay(store):
    for name in ("s/a/x", "s/a/deep/y", "s/ab", "s/b"):
        store.write(name, b"1")
    for name in ("s/a", "s/b", "s/nothing"):
        store.remove(name)
    assert dict(store.below()) == {"s/ab": 1}


@pytest.mark.parametrize(
    ("odd", "neighbour"), [("[a]*", "aX"), ("r?", "rX"), ("r*", "rX/deep"), ("[!b]x", "ax"), ("**", "any/where")]
)
def test_letters_of_a_pattern_in_a_root_mean_themselves(root, odd, neighbour):
    odd_one, other = store_at(f"{root}/{odd}"), store_at(f"{root}/{neighbour}")
    for store in (odd_one, other):
        for name in ("s/r/a", "s/r/b", "s/c"):
            store.write(name, b"12")
    assert dict(odd_one.below()) == dict.fromkeys(("s/c", "s/r/a", "s/r/b"), 2)
    assert (odd_one.list("s"), dict(odd_one.tree("s"))) == (("c", "r"), {"r": {"a", "b"}})
    with odd_one.lock("s/q") as first, other.lock("s/q") as second:
        assert (first, second, odd_one.is_locked("s/q")) == (True, True, True)
    odd_one.remove("s/c")
    assert (odd_one.exists("s/c"), odd_one.size("s/r"), odd_one.read("s/r/a")) == (False, 4, b"12")
    odd_one.remove("s")
    assert (odd_one.exists("s"), dict(odd_one.below())) == (False, {})
    assert [other.read(name) for name in ("s/r/a", "s/r/b", "s/c")] == [b"12"] * 3


def test_what_another_process_changes_is_seen_at_once(store, root):
    made_stores.forget_file_systems()
    other = store_at(root)  # with a file system of its own, as in another process
    assert (store.list("s"), store.exists("s/a"), dict(store.below("s"))) == ((), False, {})
    other.write("s/a", b"1")
    assert (store.list("s"), store.exists("s/a"), dict(store.below("s"))) == (("a",), True, {"a": 1})
    other.write("s/a", b"22")
    other.write("s/b", b"3")
    assert (store.list("s"), store.size("s/a"), store.read("s/a")) == (("a", "b"), 2, b"22")
    other.remove("s/a")
    assert (store.list("s"), store.exists("s/a"), dict(store.below("s"))) == (("b",), False, {"b": 1})


def test_a_lock_is_held_once_and_free_at_once_when_it_is_let_go(store, root):
    assert not store_at(root).is_locked("s/r")
    assert not store.exists("s")  # looking leaves nothing
    with store.lock("s/r") as first, store_at(root).lock("s/r") as second, store.lock("s/q") as other:
        assert (first, second, other) == (True, False, True)
        assert store_at(root).is_locked("s/r")
    assert not store_at(root).is_locked("s/r")
    for _ in range(2):
        with store_at(root).lock("s/r") as again:
            assert again
    assert store.list("s/r") == ()  # the lock is no visible file


def test_a_study_is_kept_alike_in_every_store(root):
    folder = StudyFolder(root, "s")
    assert folder.study() is None
    folder.write_study({"depths": [8]})
    folder.write_spec("r", {"depth": 8})
    folder.write_checkpoint("r", b"c")
    assert (folder.run_ids(), folder.is_done("r"), folder.checkpoint("r") is not None) == (("r",), False, True)
    folder.commit("r", "finished", {"curves.parquet": b"1", "facts.json": b"{}"})
    assert (folder.is_done("r"), folder.checkpoint("r"), folder.facts("r")) == (True, None, {})
    assert sorted(folder.done("r")["files"]) == ["curves.parquet", "facts.json", "spec.json"]
    folder.verify("r")
    folder.store.write("s/r/curves.parquet", b"2")
    with pytest.raises(DamagedError, match=r"curves\.parquet does not hold") as told:
        folder.verify("r")
    assert f"{root}/s/r/curves.parquet" in str(told.value)
    assert locate("s", root).study() == folder_at(f"{root}/s").study() == {"depths": [8]}
    assert on_disk(root) == ("s",)
    folder.remove_run("r")
    assert folder.run_ids() == ()


def test_a_listed_folder_says_what_the_store_says(root):
    study = made.study_spec(seeds=(0, 1))
    folder = StudyFolder(root, "s")
    first, second, third, _ = plans = runner.pending(folder, study)
    assert len(plans) == 4
    folder.write_study(study.begun().model_dump(mode="json"))
    write_run(folder, first)
    folder.write_spec(second.run_id, second.model_dump(mode="json"))
    folder.write_checkpoint(second.run_id, b"c")
    with folder.lock(third.run_id):
        found = {run_status.spec: run_status.state for run_status in run_statuses(folder, study, verify=True)}
    assert [found[run] for run in plans] == ["done", "partial", "running", "pending"]
    assert runner.pending(folder, study) == plans[1:]


def test_runs_and_their_ends_come_from_one_request(s3_root, monkeypatch):
    folder = StudyFolder(s3_root, "s")
    for number in range(30):
        folder.write_spec(f"r{number:02}", {})
        folder.store.write(f"s/r{number:02}/done.json", b"{}")
    counts = counted(folder.store, monkeypatch)
    snapshot = StudySnapshot(folder)
    assert len(snapshot.ended()) == len(snapshot.run_ids()) == 30
    assert counts == ["list_objects_v2"]
    assert len(folder.run_ids()) == 30
    assert counts == ["list_objects_v2"] * 2


def test_a_file_is_read_with_one_request_and_written_with_one(s3_root, monkeypatch):
    store = store_at(s3_root)
    counts = counted(store, monkeypatch)
    store.write("s/a", b"1" * 100)
    store.read("s/a")
    assert counts == ["put_object", "get_object"]
    StudyFolder(s3_root, "s").commit("r", "finished", {"a": b"1", "spec.json": b"{}"})
    # what was kept on the way, what there is; a mark of the commit where no checkpoint is one, both files, done.json;
    # the mark is taken away
    taken_away = ["list_objects_v2", "head_object", "delete_object"]
    assert counts[2:] == ["get_object", *["list_objects_v2"] * 2, *["put_object"] * 4, *taken_away]


def counted(store, monkeypatch):
    """The names of the requests made from now on."""
    made, call = [], store.objects.fs._call_s3

    async def noted(method, *arguments, **named):
        made.append(method)
        return await call(method, *arguments, **named)

    monkeypatch.setattr(store.objects.fs, "_call_s3", noted)
    return made


# stores in which no lock is possible


def test_a_store_that_creates_over_what_is_there_is_refused(s3_root, monkeypatch):
    folder = StudyFolder(s3_root, "s")
    call = folder.store.objects.fs._call_s3

    async def without_condition(method, *arguments, **named):
        named.pop("IfNoneMatch", None)
        return await call(method, *arguments, **named)

    monkeypatch.setattr(folder.store.objects.fs, "_call_s3", without_condition)
    with pytest.raises(UserError, match="overwrites existing files"), folder.lock("r"):
        pass


def test_a_protocol_that_cannot_create_exclusively_is_read_and_refused_for_work(tmp_path):
    store = store_at(f"dir::file://{tmp_path}")
    with pytest.raises(UserError, match="can be read, but has no locks between processes"), store.lock("r"):
        pass
    assert not store.is_locked("r")


# places


@pytest.mark.parametrize(
    ("text", "name", "parent"),
    [
        ("s3://bucket/runs/made", "made", "s3://bucket/runs"),
        ("s3://bucket/made/", "made", "s3://bucket"),
        ("memory://made", "made", "memory://"),
    ],
)
def test_a_url_keeps_its_slashes(text, name, parent):
    place = as_place(text)
    assert (place.name, place.parent, place.parent / name) == (name, parent, text.rstrip("/"))
    assert as_place(place) is not Path
    assert isinstance(place / "a" / "b", Url)


def test_a_url_that_went_through_pathlib_is_refused():
    with pytest.raises(UserError, match="give it as text"):
        as_place(Path("s3://bucket/runs"))


@pytest.mark.parametrize(
    ("text", "meant"), [("s3:/bucket/runs", "s3://bucket/runs"), ("file:/tmp/runs", "file:///tmp/runs")]
)
def test_a_url_with_one_slash_is_no_folder_here(text, meant):
    with pytest.raises(UserError, match=f"^{text}: did you mean {meant}\\?$"):
        as_place(text)
    assert as_place("C:/runs") == Path("C:/runs")


def test_repeated_slashes_in_a_url_count_as_one(s3_root):
    assert as_place("s3://bucket//deep///runs//") == "s3://bucket/deep/runs"
    twice = s3_root.replace("://studies/", "://studies//")
    StudyFolder(twice, "s").write_study({"depths": [8]})
    with StudyFolder(twice, "s").study_lock() as held:
        assert held
    assert StudyFolder(s3_root, "s").study() == {"depths": [8]}


@pytest.mark.parametrize(
    ("root", "why"),
    [
        ("s3://", " names no bucket: expected a path, s3://BUCKET/PATH"),
        ("s3:///runs", " names no bucket: expected a path"),
        ("ftp://nowhere.invalid/y", ": the store cannot be opened (gaierror"),
        ("http://h/runs", ": a web server is read-only, so it cannot hold studies: expected a path"),
        ("https://h", ": a web server is read-only, so it cannot hold studies"),
    ],
)
def test_a_root_that_can_hold_no_study_is_refused_in_one_line(command, root, why):
    for arguments in (("status",), ("run", "quickstart"), ("plan", "quickstart")):
        said = command(*arguments, "--root", root)
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert said.err.startswith(f"degradation: {root}")
        assert why in said.err


def test_a_file_url_is_a_path(tmp_path):
    assert as_place(f"file://{tmp_path}") == tmp_path


def test_a_protocol_that_nobody_knows_is_one_line():
    with pytest.raises(UserError, match=r"nonsense://x: expected a path, s3://BUCKET/PATH"):
        store_at("nonsense://x")


WITHOUT = """
import sys
sys.modules["{missing}"] = None
from degradation.errors import UserError
from degradation.store import store_at
try:
    store_at("{url}")
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("missing", "url", "install"),
    [
        ("s3fs", "s3://b/x", "s3:// is missing: pip install 'degradation[cluster]'"),
        ("gcsfs", "gs://b/x", "gs:// is missing: pip install gcsfs"),
        ("tenacity", "memory://x", "tenacity is missing: pip install 'degradation[cluster]'"),
    ],
)
def test_a_missing_package_is_one_line(missing, url, install):
    code = WITHOUT.format(missing=missing, url=url)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.startswith(url)
    assert said.stdout.strip().endswith(install)
    assert said.stdout.count("\n") == 1


@pytest.mark.slow
def test_no_store_library_is_imported_for_a_path(tmp_path):
    StudyFolder(tmp_path, "s").write_study(json.loads(made.study_spec().model_dump_json()))
    used = f"degradation.load({str(tmp_path / 's')!r})"
    unwanted = "{'fsspec', 's3fs', 'gcsfs', 'tenacity', 'botocore', 'ray'}"
    code = f"import sys, degradation.launchers.runner; {used}; assert not {unwanted} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
