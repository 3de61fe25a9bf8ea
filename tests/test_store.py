"""The store: whole files or none, done means done, locks die with their holder."""

import json

import pytest

from degradation.errors import DamagedError, UseError
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
    with pytest.raises(UseError, match="No space left on device"):
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
    with pytest.raises(UseError, match="a study's name"):
        StudyFolder(tmp_path, name)


def test_removing_a_run_begins_with_done(folder, monkeypatch):
    folder.commit("r", "finished", {})
    removed, remove = [], LocalStore.remove
    monkeypatch.setattr(LocalStore, "remove", lambda self, name: (removed.append(name), remove(self, name))[1])
    folder.remove_run("r")
    assert removed == ["s/r/done.json", "s/r"]
    assert folder.run_ids() == ()
