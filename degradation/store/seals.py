"""Fields <-> JSON that shows any change to it; safetensors bytes <-> the same with a digest of all of them.

A sealed file is ``{"content": ..., "sha256": ...}``: the digest is of the content as JSON with sorted keys, so that
white space may change and nothing else. Files of version 0.1 hold the content alone; they are read, and not protected.
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
    """The fields as JSON under a digest of them."""
    return (json.dumps({CONTENT: fields, DIGEST: _digest_of(fields)}, indent=1) + "\n").encode()


def is_sealed(data: bytes) -> bool:
    """Whether the data are such a file, unchanged."""
    try:
        unsealed(data, always=True)
    except DamagedError:
        return False
    return True


def unsealed(data: bytes, *, always: bool = False) -> dict[str, Any]:
    """The fields passed to ``sealed``; those of a file without a seal unchanged, unless it ``always`` has one.

    Raises DamagedError if the data are no JSON object or the digest is not that of the content.
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
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def seal_tensors(data: bytes) -> bytes:
    """Safetensors bytes with ``sha256: EMPTY`` in their metadata -> the same with the digest of all in its place."""
    at = _place_of(data, EMPTY)
    return data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + len(EMPTY) :]


def check_tensors(data: bytes) -> Mapping[str, str]:
    """The metadata of what ``seal_tensors`` made; DamagedError if any byte differs, including the header."""
    metadata = metadata_of(data)
    found = metadata.get(DIGEST, "")
    if len(found) != len(EMPTY):
        raise DamagedError("the checkpoint has no digest")
    at = _place_of(data, found)
    unsealed_data = data[:at] + EMPTY.encode() + data[at + len(EMPTY) :]
    if hashlib.sha256(unsealed_data).hexdigest() != found:
        raise DamagedError("the checkpoint does not hold what was written to it")
    return metadata


def metadata_of(data: bytes) -> Mapping[str, str]:
    """The metadata in a safetensors header; DamagedError if there is none."""
    try:
        metadata = json.loads(data[8 : _header_end(data)])["__metadata__"]
        return {str(name): str(value) for name, value in metadata.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError("the checkpoint cannot be read (no header)") from error


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _place_of(data: bytes, digest: str) -> int:
    """Where the digest is in the header; DamagedError if it is not exactly once there."""
    header = data[: _header_end(data)]
    text = f'"{digest}"'.encode()
    if header.count(text) != 1:
        raise DamagedError("the checkpoint does not hold what was written to it")
    return header.index(text) + 1


def is_ending(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a done.json: a status, the files with their hashes, those freed since."""
    hashes = [fields.get("files"), fields.get("freed", {})]
    return (
        fields.keys() <= {"status", "files", "freed"}
        and fields.get("status") in ENDINGS
        and all(isinstance(each, dict) and all(map(is_entry, each, each.values())) for each in hashes)
    )


def is_entry(file: str, sha: object) -> bool:
    """Whether it is a name inside the run's folder and a hash: listed files are read, and may be deleted."""
    return "/" not in file and "\\" not in file and SHA_256.fullmatch(str(sha)) is not None


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
