"""Errors of a store at a URL -> retry, a missing file, or one line for the user.

Each library has its own errors and may not be installed, so errors are recognized by status, code and name.
"""

import errno
from collections.abc import Iterator

from degradation.errors import UserError

BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP: a retry may succeed
BUSY_CODES = ("SlowDown", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "Throttling")
DENIED = (401, 403)
MOVED = (301, 307, 308)
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
NETWORK = (errno.EBUSY, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ETIMEDOUT, errno.EPIPE)
NETWORK_ERRORS = (
    "ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError", "FSTimeoutError",
    "IncompleteRead", "ProxyError", "ResponseParserError", "ServiceRequestError", "ServiceResponseError", "Timeout",
    "TransportError",
)  # fmt: skip
"""Classes of aiohttp, azure, botocore, fsspec, google.auth, http.client and requests."""
CERTIFICATE = ("SSLError", "ClientConnectorCertificateError")  # subclasses of network errors that waiting cannot fix
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: no connection, a timeout, a busy or broken server."""
    if (status := _status(error)) is not None:
        return status in BUSY or _code(error) in BUSY_CODES
    names = _class_names(error)
    if isinstance(error, FINAL) or any(name in CERTIFICATE for name in names):
        return False
    if isinstance(error, TimeoutError) or any(name in NETWORK_ERRORS for name in names):
        return True
    return isinstance(error, OSError) and error.errno in NETWORK


def is_taken(error: BaseException) -> bool:
    """Whether a file was not created because it exists: errors of S3, compatible servers, Google and Azure."""
    return isinstance(error, FileExistsError) or _status(error) == 412 or _code(error) == "PreconditionFailed"


def is_missing(error: BaseException) -> bool:
    """Whether the file does not exist in a reachable store."""
    return isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket"


def refused(error: Exception, place: str) -> UserError:
    """The error of a refused request in one line, without any part of a key."""
    code = _code(error) or _status(error) or ""
    denied = isinstance(error, PermissionError) or _status(error) in DENIED or str(error).startswith("Forbidden")
    if denied:
        why = f"access denied{f' ({code})' if code else ''}: check the credentials in the environment and their rights"
    elif any(name in NO_CREDENTIALS for name in _class_names(error)):
        why = "no credentials found: set those of the store in the environment, such as AWS_ACCESS_KEY_ID"
    elif "ProfileNotFound" in _class_names(error):  # botocore's message names it
        why = f"{str(error).rstrip('.')}: set another in AWS_PROFILE, or unset it"
    elif str(error).startswith("Invalid endpoint"):
        why = f"{error}: expected an address with http:// or https:// in AWS_ENDPOINT_URL"
    elif any(isinstance(each, RecursionError) for each in _chain(error)) or _status(error) in MOVED:
        why = "the server redirects the request (HTTP 301): set AWS_DEFAULT_REGION to the bucket's region"
    elif isinstance(error, FileNotFoundError):
        why = "no such bucket: create it, or choose another"
    else:
        why = reason(error)
    return UserError(f"{place}: {why}")


def reason(error: BaseException) -> str:
    """The first line of an error, with its class."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _class_names(error: BaseException) -> list[str]:
    return [cls.__name__ for each in _chain(error) for cls in type(each).__mro__]


def _status(error: BaseException) -> int | None:
    """The HTTP status of a server's answer; None without an answer."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        of_response = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        for status in (of_response, *(getattr(each, name, None) for name in ("status", "status_code", "code"))):
            if str(status).isdigit():
                return int(str(status))
    return None


def _code(error: BaseException) -> str:
    """S3's code of an error: ``NoSuchBucket``."""
    responses = [getattr(each, "response", None) for each in _chain(error)]
    return next((str(r["Error"].get("Code", "")) for r in responses if isinstance(r, dict) and "Error" in r), "")
