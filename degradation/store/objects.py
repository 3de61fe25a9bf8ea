"""A URL -> single requests to its store, through fsspec: without cache and retries."""

import threading
from contextlib import nullcontext
from typing import Any

from degradation.errors import UserError
from degradation.store.location import Url
from degradation.store.remote_errors import is_missing, is_taken, reason

CREATING = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols whose library creates a file only if there is none, in one request that the server decides.

S3: If-None-Match (s3fs 2024.12 and later), Google: ifGenerationMatch=0, Azure: If-None-Match. With other protocols
fsspec checks first and writes afterwards, so two processes may both believe that they were first.
"""
EXTRAS = {
    "s3": "pip install 'degradation[cluster]'",
    "s3a": "pip install 'degradation[cluster]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
}
OPTIONS: dict[str, dict[str, Any]] = {protocol: {"max_concurrency": 1} for protocol in ("s3", "s3a")}
"""With a larger value, s3fs requests the size of each file before it reads it; the files here are small."""
PATTERN = "*?["
"""Characters that fsspec's `rm` treats as a pattern; other requests here do not."""
UNWRITABLE = ("http", "https")
EXPECTED = "expected a path, s3://BUCKET/PATH or gs://BUCKET/PATH"

_one_process = threading.Lock()  # memory:// checks and writes in two steps


class Objects:
    """The files below a URL. Storage options come from the usual places of fsspec and the store's library."""

    def __init__(self, root: Url) -> None:
        self.root = root
        self.protocol = root.partition("://")[0]
        self.fs, self._base = _opened(root)

    def path(self, name: str) -> str:
        """The name in fsspec's form."""
        return "/".join(part for part in (self._base, name) if part)

    def get(self, name: str) -> bytes:
        return bytes(self.fs.cat_file(self.path(name)))

    def put(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file; False if it exists. Of several attempts at once exactly one succeeds."""
        try:
            with _one_process if self.protocol == "memory" else nullcontext():
                self.fs.pipe_file(self.path(name), data, mode="create")
        except Exception as error:
            if is_taken(error):
                return False
            raise
        return True

    def info(self, name: str) -> dict[str, Any]:
        """``type`` (file or directory) and ``size``; FileNotFoundError if it does not exist."""
        return dict(self.fs.info(self.path(name)))

    def children(self, name: str) -> list[str]:
        """Names directly below, hidden ones too; one request per 1,000."""
        try:
            paths = self.fs.ls(self.path(name), detail=False)
        except FileNotFoundError as error:
            if not is_missing(error):
                raise
            return []
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in paths if path.strip("/") != self.path(name).strip("/")]

    def below(self, name: str) -> dict[str, int]:
        """Every file below a folder: its relative name -> bytes; one request per 1,000."""
        start = self.path(name).strip("/") + "/"
        infos = self.fs.find(self.path(name), detail=True)
        sizes = {path.lstrip("/"): info["size"] for path, info in infos.items() if info["type"] == "file"}
        return {path.removeprefix(start): size for path, size in sizes.items() if path.startswith(start)}

    def delete(self, name: str) -> None:
        """Delete one file; nothing happens if there is none."""
        try:
            self.fs.rm_file(self.path(name))
        except FileNotFoundError as error:
            if not is_missing(error):
                raise

    def delete_all(self, names: list[str]) -> None:
        """Delete files; one request per 1,000. The caller must check which ones the server did not delete."""
        paths = [self.path(name) for name in names]
        if not any(letter in path for path in paths for letter in PATTERN):
            self.fs.rm(paths)
            return
        for name in names:  # `rm` would treat a key as a pattern, and delete files of another study
            self.delete(name)


def _opened(root: Url) -> tuple[Any, str]:
    """The file system and the path in it; UserError if it cannot be opened, or cannot hold a study."""
    protocol, _, place = root.partition("://")
    if protocol.rpartition("::")[2] in UNWRITABLE:
        raise UserError(f"{root}: a web server is read-only, so it cannot hold studies: {EXPECTED}")
    if protocol in CREATING and protocol != "memory" and place[:1] in ("", "/"):
        raise UserError(f"{root} names no bucket: {EXPECTED}")
    try:
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(str(root), use_listings_cache=False, **OPTIONS.get(protocol, {}))
    except ImportError as error:
        install = EXTRAS.get(protocol, str(error))
        raise UserError(f"{root}: a package that reads {protocol}:// is missing: {install}") from error
    except ValueError as error:
        raise UserError(f"{root}: {EXPECTED} ({error})") from error
    except Exception as error:  # ftp:// and others connect at once
        raise UserError(f"{root}: the store cannot be opened ({reason(error)})") from error
    return fs, str(path).rstrip("/")
