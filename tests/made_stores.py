"""Stores for tests: a folder, memory://, and s3:// on a server that the tests start on this machine."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from degradation.store import Store, store_at

BUCKET = "studies"
KINDS = ("path", "memory", "s3")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made",
    "AWS_SECRET_ACCESS_KEY": "for-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}


def forget_file_systems() -> None:
    """A store made from now on has a file system of its own, as in another process."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


class S3Server:
    """An S3 server on a free port; stopped and started again it has the same address and content."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        server = pytest.importorskip("moto.server")
        self._server = server.ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        self._server.stop()
        self._server._server.server_close()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    """The server, named in the environment as users name theirs, with one bucket."""
    pytest.importorskip("s3fs")
    forget_file_systems()  # those of the server before this one
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}).items():
            patch.setenv(name, value)
        store_at(f"s3://{BUCKET}").objects.fs.call_s3("create_bucket", Bucket=BUCKET)
        yield server
    server.stop()


@pytest.fixture
def s3_root(s3_server: S3Server) -> str:
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def memory_root() -> str:
    return f"memory://{uuid4().hex}"


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind, empty."""
    return str(tmp_path) if request.param == "path" else str(request.getfixturevalue(f"{request.param}_root"))


@pytest.fixture
def store(root: str) -> Store:
    return store_at(root)
