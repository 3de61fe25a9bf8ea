"""Fields <-> JSON with a digest of its content; safetensors bytes <-> the same with a digest of all bytes.

A sealed file is ``{"content": ..., "sha256": ...}``: the digest is of the content as JSON with sorted keys, so only
white space may change. Files of version 0.1 hold only the content; they are read, but not protected.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from degradation.errors import DamagedError

CONTENT, DIGEST = "content", "sha256"
ENDINGS = ("finished", "diverged")
SHA_256 = re.compile("[0-9a-f]{64}")
EMPTY = "0" * 64
"""Placeholder of the digest in a safetensors header while it is computed."""


def sealed(fields: Mapping[str, Any]) -> bytes:
    """The fields as JSON, with their digest."""
    return (json.dumps({CONTENT: fields, DIGEST: _digest_of(fields)}, indent=1) + "\n").encode()


def is_sealed(data: bytes) -> bool:
    """Whether the data are an unchanged sealed file."""
    try:
        unsealed(data, always=True)
    except DamagedError:
        return False
    return True


def unsealed(data: bytes, *, always: bool = False) -> dict[str, Any]:
    """The fields passed to ``sealed``; a file without a digest is read too, unless it ``always`` has one.

    Raises DamagedError if the data are not a JSON object, or the digest is not that of the content.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DamagedError(f"is not JSON ({why})") from error
    if not isinstance(fields, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(fields), "a number or true or false")
        raise DamagedError(f"is not JSON with named fields but {kind}")
    if not always and not fields.keys() & {CONTENT, DIGEST}:
        return fields
    content = fields.get(CONTENT)
    if fields.keys() != {CONTENT, DIGEST} or not isinstance(content, dict) or fields[DIGEST] != _digest_of(content):
        raise DamagedError("does not hold what was written to it (its content and its digest disagree)")
    return content


def _digest_of(fields: Mapping[str, Any]) -> str:
    return sha256(json.dumps(fields, sort_keys=True).encode())


def seal_tensors(data: bytes) -> bytes:
    """Safetensors bytes with ``sha256: EMPTY`` in their metadata -> the same with the digest in its place."""
    return _with_digest(data, EMPTY, sha256(data))


def check_tensors(data: bytes) -> Mapping[str, str]:
    """The metadata of the result of ``seal_tensors``; DamagedError if any byte differs, also in the header."""
    try:
        fields = json.loads(data[8 : _header_end(data)])["__metadata__"]
        metadata = {str(name): str(value) for name, value in fields.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError("the checkpoint cannot be read (no header)") from error
    digest = metadata.get(DIGEST, "")
    if len(digest) != len(EMPTY):
        raise DamagedError("the checkpoint has no digest")
    if sha256(_with_digest(data, digest, EMPTY)) != digest:
        raise DamagedError("the checkpoint does not hold what was written to it")
    return metadata


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _with_digest(data: bytes, old: str, new: str) -> bytes:
    """The data with another digest in the header; DamagedError if the old one is not there exactly once."""
    header, text = data[: _header_end(data)], f'"{old}"'.encode()
    if header.count(text) != 1:
        raise DamagedError("the checkpoint does not hold what was written to it")
    return header.replace(text, f'"{new}"'.encode()) + data[len(header) :]


def is_ending(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a done.json: the status, the hashes of the files and of the freed files."""
    hashes = [fields.get("files"), fields.get("freed", {})]
    return (
        fields.keys() <= {"status", "files", "freed"}
        and fields.get("status") in ENDINGS
        and all(isinstance(files, dict) and all(map(is_entry, files, files.values())) for files in hashes)
    )


def is_entry(file: str, sha: object) -> bool:
    """Whether these are a name inside the run's folder and a hash: listed files are read and may be deleted."""
    return "/" not in file and "\\" not in file and SHA_256.fullmatch(str(sha)) is not None


def sha256(data: bytes) -> str:
    """The SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
