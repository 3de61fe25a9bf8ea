"""A study behind s3://: carried out, killed, continued, shown and read by the real command; a store that goes away."""

import errno
import importlib
import threading

import pandas as pd
import pytest

import degradation
from degradation.errors import UserError
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.store import StudyFolder, lease, remote, store_at
from degradation.store.remote_errors import is_missing, is_taken, is_transient, refused
from tests import calling, made, made_stores
from tests.calling import Command
from tests.test_runner import SCRIPT, assert_same_frames, start, wait_for

pytestmark = pytest.mark.slow

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
botocore = importlib.import_module("botocore.exceptions")

command = calling.command
s3_server, s3_root, memory_root = made_stores.s3_server, made_stores.s3_root, made_stores.memory_root

SETTINGS = ("dataset.examples=48", "dataset.test_examples=20", "dataset.size=8", "recipe.padding=1", "recipe.batch=16")
ASKED = (
    *("run", "--dataset", "synthetic", "--depths", "8", "--steps", "12", "--warmup-steps", "2", "--eval-every", "5"),
    *("--name", "s", "--jobs", "1", "--threads", "1", *(word for each in SETTINGS for word in ("--set", each))),
)
SHORT_LEASE = "from degradation.store import lease\nlease.TTL = 2.0\n"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    options = Options(jobs=1, threads=1)
    return runner.run(made.study_spec(), name="s", root=tmp_path_factory.mktemp("local"), options=options)


def test_a_study_on_s3_is_killed_continued_shown_and_read(command: Command, s3_root, local, tmp_path, monkeypatch):
    killed = start(s3_root, script=SHORT_LEASE + SCRIPT)
    wait_for(killed, "evaluate 5")
    killed.kill()
    killed.wait()
    folder = StudyFolder(s3_root, "s")
    assert [folder.checkpoint(run_id) is not None for run_id in folder.run_ids()] == [True]
    said = command(*ASKED, "--root", s3_root, "--no-figures")
    assert (said.status, said.err) == (0, "")
    assert f"2 runs finished in {s3_root}/s" in said.out
    assert "continued from step 5" in said.out
    found = degradation.load(f"{s3_root}/s")
    assert_same_frames(found, local)
    status = command("status", "s", "--root", s3_root, "--json").json
    assert (status["path"], [run["state"] for run in status["runs"]]) == (f"{s3_root}/s", ["done"] * 2)
    assert command("status", "--root", s3_root, "--json").json == [{"name": "s", "done": 2, "runs": 2}]
    assert not list(tmp_path.iterdir())  # nothing landed beside


def test_every_command_that_reads_takes_a_url(command: Command, s3_root, local):
    copy(local, s3_root)
    assert f"{s3_root}/s/figures/curves.png" in command("plot", "s", "curves", "--root", s3_root).out
    assert store_at(s3_root).read("s/figures/curves.png").startswith(b"\x89PNG")
    said = command("report", f"{s3_root}/s")
    assert f"{s3_root}/s/report.html" in said.out
    page = store_at(s3_root).read("s/report.html")
    assert page[:9].lower() == b"<!doctype"
    assert "cannot open" in command("report", "s", "--root", s3_root, "--open").err
    assert f"{s3_root}/s/export/curves.csv" in command("export", "s", "--root", s3_root).out
    assert f"a: {s3_root}/s" in command("compare", "s", f"{s3_root}/s", "--root", s3_root).out
    assert command("export", f"{s3_root}/s", "--out", "here").out.startswith("here/")
    run_id = local.run_ids[0]
    assert "freed" in command("clean", "s", "--run", run_id, "--yes", "--root", s3_root).out
    assert command("plan", "s", "--root", s3_root, "--json").json["runs"][0]["state"] == "pending"
    assert "no study 'other' on disk" in command("status", "other", "--root", s3_root).err


def copy(results, root):
    """The study in another store."""
    source, target = results.folder.store, store_at(root)
    for name in source.below("s"):
        if not name.endswith(".lock"):
            target.write(f"s/{name}", source.read(f"s/{name}"))


def test_python_trains_into_a_url(memory_root, local):
    found = degradation.run(made.study_spec(), name="s", root=memory_root, options=Options(jobs=1, threads=1))
    assert_same_frames(found, local)


def test_memory_is_not_shared_with_worker_processes(memory_root):
    with pytest.raises(UserError, match="lives in one process: expected --jobs 1"):
        degradation.run(made.study_spec(), name="s", root=memory_root, options=Options(jobs=2, threads=1))


def test_a_bucket_that_is_not_there_is_one_line(command: Command, s3_server):
    for arguments in (("status",), ASKED):
        said = command(*arguments, "--root", "s3://not-there/runs")
        assert said.status == 2
        assert "no such bucket: create it, or choose another" in said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("AWS_PROFILE", "nosuch", "The config profile (nosuch) could not be found: set another in AWS_PROFILE"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:5777", "Invalid endpoint: 127.0.0.1:5777: expected an address with http://"),
    ],
)
def test_a_wrong_setting_of_the_store_is_named(command: Command, s3_server, monkeypatch, name, value, why):
    monkeypatch.setenv(name, value)
    made_stores.forget_file_systems()
    said = command("status", "--root", "s3://studies/runs")
    made_stores.forget_file_systems()
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert f"s3://studies/runs: {why}" in said.err


def test_a_study_that_a_dead_command_holds_is_said_to_be_so(memory_root, monkeypatch):
    monkeypatch.setattr(StudyFolder, "study_lock", lambda folder: folder.store.lock(folder.name))  # does not wait
    folder = StudyFolder(memory_root, "s")
    assert lease.Lease(folder.store.objects, "s").take()  # and never renewed
    with pytest.raises(UserError, match="changed by another process, or one that died within the last minute: try"):
        runner.execute_study(folder, made.study_spec(), Options(jobs=1, threads=1), silent)


# a store that is away for a while


def test_a_store_that_is_away_for_a_while_costs_nothing_but_time(s3_server, s3_root, local, monkeypatch):
    monkeypatch.setattr(lease, "TTL", 1.0)  # it is away for longer than a lease lasts
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.2)
    said = []

    def report(progress):
        said.append(progress.message)
        if progress.phase == "evaluate" and progress.step == 5 and len(back) < 1:
            s3_server.stop()
            back.append(threading.Timer(2.0, s3_server.start))
            back[0].start()

    back: list[threading.Timer] = []
    options = Options(jobs=1, threads=1, checkpoint_seconds=0)
    outcome = runner.execute_study(StudyFolder(s3_root, "s"), made.study_spec(), options, report)
    assert len(outcome.finished) == 2
    assert sum("the store is unreachable since" in message for message in said) == 1
    assert_same_frames(degradation.load(f"{s3_root}/s"), local)


@pytest.fixture
def away(s3_server):
    s3_server.stop()
    yield
    s3_server.start()


def test_a_store_that_stays_away_is_given_up_in_one_line(s3_root, away, monkeypatch, capsys):
    monkeypatch.setattr(remote, "PATIENCE", 0.5)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.05)
    store = store_at(s3_root)
    with pytest.raises(UserError, match=r"^s3://.*unreachable for 0 seconds .*Completed work is saved: run again\.$"):
        store.write("s/a", b"1")
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("unreachable since") == 1


def test_a_stop_request_is_not_kept_waiting(s3_root, away, monkeypatch):
    store, asked, lines = store_at(s3_root), threading.Event(), []
    store.attend(lambda line: (lines.append(line), asked.set()), asked.is_set)
    with pytest.raises(UserError, match="unreachable and a stop was requested"):
        store.read("s/a")
    assert len(lines) == 1


# what a store answers


def answer(status: int, code: str = "") -> Exception:
    """What s3fs raises for an answer of the server."""
    response = {
        "Error": {"Code": code or str(status), "Message": "said"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return s3fs.errors.translate_boto_error(botocore.ClientError(response, "PutObject"))


@pytest.mark.parametrize(
    "error",
    [
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        answer(502),
        answer(429),
        answer(400, "RequestTimeout"),
        answer(409, "ConditionalRequestConflict"),
        botocore.EndpointConnectionError(endpoint_url="http://x"),
        botocore.ConnectTimeoutError(endpoint_url="http://x"),
        botocore.ReadTimeoutError(endpoint_url="http://x"),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "no route"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (answer(403, "AccessDenied"), r"access denied \(AccessDenied\): check the credentials"),
        (answer(403), r"access denied \(403\)"),
        (answer(403, "SignatureDoesNotMatch"), "access denied"),
        (answer(404, "NoSuchBucket"), "no such bucket"),
        (answer(400, "InvalidBucketName"), "OSError"),
        (answer(501, "NotImplemented"), "OSError"),
        (botocore.NoCredentialsError(), "no credentials found"),
        (botocore.SSLError(endpoint_url="https://x", error="self-signed"), "SSLError"),
        (OSError("Forbidden: b/o"), "access denied"),
        (ValueError("odd"), "ValueError: odd"),
    ],
    ids=repr,
)
def test_what_will_not_pass_is_said_at_once(error, why):
    assert not is_transient(error)
    assert not is_missing(error)
    assert not is_taken(error)
    with pytest.raises(UserError, match=rf"^s3://b/x: .*{why}"):
        raise refused(error, "s3://b/x")


def test_what_is_there_already_is_known_of_every_server():
    assert is_taken(answer(412, "PreconditionFailed"))  # without the word that only Amazon adds
    assert is_taken(FileExistsError())
    assert is_missing(answer(404, "NoSuchKey"))
    assert not is_transient(answer(412, "PreconditionFailed"))


def test_a_refusal_comes_through_a_store_at_once(s3_root, monkeypatch):
    store, tries = store_at(s3_root), []

    def denied(name):
        tries.append(name)
        raise answer(403, "AccessDenied")

    monkeypatch.setattr(store.objects, "get", denied)
    with pytest.raises(UserError, match=f"{s3_root}/s/a: access denied"):
        store.read("s/a")
    assert len(tries) == 1


def test_frames_of_a_url_are_frames(s3_root, local):
    copy(local, s3_root)
    pd.testing.assert_frame_equal(degradation.load(f"{s3_root}/s/")["curves"], local["curves"])
