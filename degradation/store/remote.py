"""A folder at a URL (``s3://bucket/runs``, ``gs://...``, any that fsspec supports) as a store.

Endpoint and credentials come from the environment, as usual: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``; other options of the library come from
variables such as ``FSSPEC_S3_ANON=true`` or fsspec's configuration files. An object appears whole or not at all, so a
file is written directly under its own name.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from degradation.errors import UserError
from degradation.store.base import Store, folders_of
from degradation.store.lease import Lease
from degradation.store.location import Url
from degradation.store.objects import Objects
from degradation.store.remote_errors import is_missing, is_transient, reason, refused

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

PATIENCE = 300.0  # seconds that a store may be unreachable
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between attempts, doubled each time
ASK_SECONDS = 0.5  # between two checks of a lock that another process holds
WAKE_SECONDS = 0.2  # between two checks for a stop request while waiting


class RemoteStore(Store):
    """Bytes under names below a URL. UserError if a package is missing or the protocol is unknown."""

    root: Url

    def __init__(self, root: Url) -> None:
        self.root = root
        self.objects = Objects(root)
        self.shared = self.objects.protocol != "memory"
        self._leases: dict[str, Lease] = {}
        self._say: Callable[[str], None] = _on_stderr
        self._stop: Callable[[], bool] = lambda: False
        _find_tenacity(root)

    def attend(self, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self._say, self._stop = say, stop

    def read(self, name: str) -> bytes:
        return self._patiently(name, partial(self.objects.get, name))

    def write(self, name: str, data: bytes) -> None:
        self._change(name, partial(self.objects.put, name, data))

    def exists(self, name: str) -> bool:
        try:
            self._patiently(name, partial(self.objects.info, name))
        except FileNotFoundError:
            return False
        return True

    def list(self, name: str = "") -> tuple[str, ...]:
        names = self._patiently(name, partial(self.objects.children, name))
        return tuple(sorted({child for child in names if child[:1] != "."}))

    def below(self, name: str = "") -> Mapping[str, int]:
        return self._patiently(name, partial(self.objects.below, name))

    def tree(self, name: str = "") -> Mapping[str, frozenset[str]]:
        return folders_of(self.below(name))

    def size(self, name: str) -> int:
        try:
            info = self._patiently(name, partial(self.objects.info, name))
        except FileNotFoundError:
            return 0
        return int(info["size"]) if info["type"] == "file" else sum(self.below(name).values())

    def remove(self, name: str) -> None:
        inside = [f"{name}/{file}" for file in self.below(name)]
        if not inside:
            self._change(name, partial(self.objects.delete, name))
            return
        self._change(name, partial(self.objects.delete_all, inside))
        if remaining := self.below(name):
            raise UserError(
                f"{self.place(name)}: {len(remaining)} files could not be deleted: check the rights to delete"
            )

    @contextmanager
    def lock(self, name: str, timeout: float = 0) -> Iterator[bool]:
        """A lease: it is renewed inside the block, and expires after its holder dies."""
        lease = Lease(self.objects, name)
        deadline = time.monotonic() + timeout
        while not (held := self._patiently(name, lease.take)) and time.monotonic() < deadline:
            time.sleep(ASK_SECONDS)
        if not held:
            yield False
            return
        self._leases[name] = lease
        lease.keep()
        try:
            yield True
        finally:
            del self._leases[name]
            lease.release()

    def is_locked(self, name: str) -> bool:
        return self._patiently(name, Lease(self.objects, name).is_live)

    def _change(self, name: str, act: Callable[[], None]) -> None:
        """Write or delete, each attempt only while this process still holds the lock."""

        def attempt() -> None:
            for folder, lease in self._leases.items():
                if f"{name}/".startswith(f"{folder}/"):
                    lease.confirm()
            act()

        try:
            self._patiently(name, attempt)
        except FileNotFoundError as error:
            raise refused(error, self.place(name)) from error

    def _patiently(self, name: str, act: Callable[[], T]) -> T:
        """The result of a request, repeated with growing waits while the store is unreachable.

        Raises FileNotFoundError if the file does not exist, LockLost, and UserError for every other error.
        """
        import tenacity

        too_long = tenacity.stop_after_delay(PATIENCE)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
            stop=lambda state: self._stop() or too_long(state),
            sleep=self._sleep,
            before_sleep=self._report_once,
            reraise=True,
        )
        try:
            return retrying(act)
        except UserError:
            raise
        except Exception as error:
            if is_missing(error):
                raise
            if not is_transient(error):
                raise refused(error, self.place(name)) from error
            waited = "and a stop was requested" if self._stop() else f"for {PATIENCE:.0f} seconds"
            raise UserError(
                f"{self.root}: the store is unreachable {waited} ({reason(error)}). Completed work is saved: run again."
            ) from error

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stop() and (remaining := until - time.monotonic()) > 0:
            time.sleep(min(remaining, WAKE_SECONDS))

    def _report_once(self, state: "RetryCallState") -> None:
        if state.attempt_number == 1 and state.outcome and (error := state.outcome.exception()):
            since = time.strftime("%H:%M:%S")
            self._say(f"{self.root}: the store is unreachable since {since}, retrying ({reason(error)})")


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _find_tenacity(root: Url) -> None:
    try:
        import tenacity  # noqa: F401
    except ImportError as error:
        raise UserError(f"{root}: the package tenacity is missing: pip install 'degradation[cluster]'") from error
