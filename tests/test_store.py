"""The store: whole files or none, done means done, locks die with their holder."""

import json

import pytest

from degradation.errors import DamagedError, UserError
from degradation.store import StudyFolder
from degradation.store.local import LocalStore


@pytest.fixture
def folder(tmp_path):
    made = StudyFolder(tmp_path, "s")
    made.write_study({"depths": [8]})
    made.write_spec("r", {"depth": 8})
    return made


def test_done_is_written_last_and_the_checkpoint_is_forgotten(folder, monkeypatch):
    folder.write_checkpoint("r", b"c")
    written, write = [], LocalStore.write
    monkeypatch.setattr(
        LocalStore, "write", lambda self, name, data: (written.append(name), write(self, name, data))[1]
    )
    folder.commit("r", "finished", {"curves.parquet": b"1", "facts.json": b"{}"})
    assert written[-1] == "s/r/done.json"
    assert folder.is_done("r")
    assert folder.checkpoint("r") is None


def test_a_write_that_fails_leaves_the_old_bytes_and_no_rubbish(folder, monkeypatch):
    import os

    folder.write_checkpoint("r", b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        folder.write_checkpoint("r", b"new")
    assert folder.checkpoint("r") == b"old"
    assert not list(folder.run_path("r").glob(".writing-*"))


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"2"), lambda path: path.unlink()])
def test_a_changed_or_missing_file_of_a_done_run_is_named(folder, damage):
    folder.commit("r", "finished", {"curves.parquet": b"1"})
    damage(folder.run_path("r") / "curves.parquet")
    with pytest.raises(DamagedError, match=r"curves\.parquet .*SHA-256"):
        folder.file("r", "curves.parquet")
    with pytest.raises(DamagedError):
        folder.verify("r")


def test_a_changed_spec_of_a_done_run_is_noticed(folder):
    folder.commit("r", "finished", {})
    (folder.run_path("r") / "spec.json").write_text(json.dumps({"depth": 20}))
    with pytest.raises(DamagedError, match=r"spec\.json"):
        folder.verify("r")


def test_nothing_is_done_without_its_spec(folder):
    (folder.run_path("r") / "spec.json").unlink()
    with pytest.raises(DamagedError, match=r"spec\.json is missing"):
        folder.commit("r", "finished", {"curves.parquet": b"1"})
    assert not folder.is_done("r")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"2"), lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["snapshot-3.safetensors", "parts.json"])
def test_what_was_kept_on_the_way_is_committed_as_it_was_written_or_not_at_all(folder, damage, file):
    folder.keep("r", "snapshot-3.safetensors", b"1")
    folder.keep("r", "snapshot-6.safetensors", b"1")
    assert folder.kept("r", "snapshot-3.safetensors") == b"1"
    damage(folder.run_path("r") / file)
    assert folder.kept("r", "snapshot-3.safetensors") is None
    assert folder.kept("r", "snapshot-9.safetensors") is None
    if file != "parts.json":  # without it nothing is known of them, and they are not taken in
        with pytest.raises(DamagedError, match=r"snapshot-3\.safetensors was changed or deleted"):
            folder.commit("r", "finished", {})
        assert not folder.is_done("r")


def test_a_committed_run_lists_what_was_kept_and_no_strangers(folder):
    folder.keep("r", "snapshot-3.safetensors", b"1")
    folder.keep("r", "part-a.parquet", b"1")
    (folder.run_path("r") / "notes.txt").write_text("of the user")
    folder.commit("r", "finished", {"curves.parquet": b"1"}, ["part-a.parquet"])
    assert list(folder.done("r")["files"]) == ["curves.parquet", "snapshot-3.safetensors", "spec.json"]
    names = {path.name for path in folder.run_path("r").iterdir()}
    assert names == {"curves.parquet", "done.json", "notes.txt", "snapshot-3.safetensors", "spec.json"}


SHA = "0" * 64
OLDER = {"status": "finished", "files": {"spec.json": SHA}}
"""A done.json as version 0.1 wrote it, without a digest of itself."""


@pytest.mark.parametrize(
    "fields",
    [
        {"files": OLDER["files"]},
        OLDER | {"status": "unknown"},
        OLDER | {"files": {"curves.parquet": SHA}},
        OLDER | {"files": ["spec.json"]},
        OLDER | {"files": {"spec.json": "0"}},
        OLDER | {"files": OLDER["files"] | {"../other/final.safetensors": SHA}},
        OLDER | {"freed": {"/final.safetensors": SHA}},
        OLDER | {"freed": {"final.safetensors": None}},
        OLDER | {"frees": {}},
        {"content": OLDER, "sha256": SHA},
        {"content": OLDER},
        OLDER | {"sha256": SHA},
    ],
)
def test_a_done_json_that_says_something_else_is_damaged(folder, fields):
    file = folder.run_path("r") / "done.json"
    file.write_text(json.dumps(OLDER))
    assert folder.done("r") == OLDER
    file.write_text(json.dumps(fields))
    with pytest.raises(DamagedError, match=r"done\.json does not .*degradation clean s --run r --yes"):
        folder.done("r")


def test_white_space_in_a_sealed_file_may_change_and_a_number_may_not(folder):
    file = folder.path / "study.json"
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert folder.study() == {"depths": [8]}
    file.write_text(file.read_text().replace("[8]", "[8.0]"))
    with pytest.raises(DamagedError, match=r"study\.json does not hold what was written"):
        folder.study()


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a loop of links"])
def test_what_is_no_file_is_named_and_not_waited_for(folder, kind):
    import os

    place = folder.path / "study.json"
    place.unlink()
    {"a folder": os.mkdir, "a pipe": os.mkfifo, "a loop of links": lambda path: path.symlink_to(path)}[kind](place)
    with pytest.raises(DamagedError, match=r"study\.json (is no file|cannot be read)"):
        folder.study()


def test_json_that_is_none_is_one_line(folder):
    (folder.path / "study.json").write_text("{")
    with pytest.raises(DamagedError, match=r"study\.json is not JSON"):
        folder.study()


def test_a_lock_is_held_once(folder):
    with folder.lock("r") as first, folder.lock("r") as second:
        assert (first, second) == (True, False)
    with folder.lock("r") as again:
        assert again


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".hidden", "a b"])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="a study's name"):
        StudyFolder(tmp_path, name)


def test_removing_a_run_begins_with_done(folder, monkeypatch):
    folder.commit("r", "finished", {})
    removed, remove = [], LocalStore.remove
    monkeypatch.setattr(LocalStore, "remove", lambda self, name: (removed.append(name), remove(self, name))[1])
    folder.remove_run("r")
    assert removed == ["s/r/done.json", "s/r"]
    assert folder.run_ids() == ()
