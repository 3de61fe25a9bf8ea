"""What can be freed is shown before it is deleted, and nothing else goes."""

from pathlib import Path

from degradation.store import CHECKPOINT
from tests import calling
from tests.calling import Command
from tests.made_frames import make_study

command = calling.command


def test_clean_shows_and_deletes_nothing_without_a_yes(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    run_id = folder.run_ids()[0]
    (folder.run_path(run_id) / CHECKPOINT).write_bytes(b"x" * 2000)
    (folder.run_path(run_id) / ".writing-abc").write_bytes(b"x" * 500)
    said = command("clean", "made")
    assert "2.5 kB could be freed; nothing is deleted without --yes" in said.out
    assert (folder.run_path(run_id) / CHECKPOINT).exists()
    assert "2.5 kB freed" in command("clean", "made", "--yes").out
    assert not (folder.run_path(run_id) / CHECKPOINT).exists()
    assert not (folder.run_path(run_id) / ".writing-abc").exists()
    assert "nothing to free" in command("clean", "made").out
    assert len(folder.run_ids()) == 2


def test_clean_frees_damaged_runs_and_leaves_the_others(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    damaged, whole = folder.run_ids()
    (folder.run_path(damaged) / "facts.json").write_text("{}")
    command("clean", "made", "-y")
    assert folder.run_ids() == (whole,)


def test_clean_removes_one_run_or_the_whole_study_and_none_that_is_being_trained(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    first, second = folder.run_ids()
    (folder.run_path(first) / ".writing-abc").write_bytes(b"x")
    with folder.lock(first):
        assert "being trained" in command("clean", "made", "--run", first, "--yes").err
        assert "being trained" in command("clean", "made", "--all", "--yes").err
        assert "nothing to free" in command("clean", "made", "--yes").out
    assert folder.run_ids() == (first, second)
    command("clean", "made", "--run", first, "--yes")
    assert folder.run_ids() == (second,)
    command("clean", "made", "--all", "--yes")
    assert not folder.path.exists()


def test_clean_knows_what_an_experiment_left_unfinished_damaged_or_outdated(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    first, second = folder.run_ids()
    assert "nothing to free" in command("clean", "made").out
    lesion, paths, shatter = (folder.experiment(name) for name in ("lesion", "paths", "shatter"))
    (lesion.run_path(first) / "done.json").unlink()  # as if its process had been killed between two parts
    lesion.keep(first, "part-intact.parquet", b"x" * 2000)
    (paths.run_path(first) / "paths.parquet").write_bytes(b"other")
    (shatter.run_path(first) / ".writing-abc").write_bytes(b"x" * 500)
    with lesion.lock(first):
        assert "unfinished" not in command("clean", "made").out
    said = command("clean", "made")
    for what in (f"lesion {first}", "unfinished", f"paths {first}", "damaged experiment", "incomplete file"):
        assert what in " ".join(said.out.split()), said.out
    assert second not in said.out
    command("clean", "made", "--yes")
    assert not lesion.run_path(first).exists()
    assert not paths.run_path(first).exists()
    assert shatter.is_done(first)
    assert lesion.is_done(second)
    assert "nothing to free" in command("clean", "made").out
    command("clean", "made", "--run", first, "--yes")
    assert "weights that no longer exist" in " ".join(command("clean", "made").out.split())
