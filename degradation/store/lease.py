"""The lock of a folder in a store without locks: numbered objects with an expiry, each created once.

``.lease-N`` holds the holder of the folder and the expiry. It is renewed while it is held. After it was released or has
expired, the first process that creates N+1 is the next holder; the store decides which one is first. The highest number
counts and is never deleted, so numbers never restart, not even for a process that was suspended.

Clocks of machines that share a study must agree within a quarter of ``TTL`` (15 seconds): a holder trusts its lease
for three quarters of it. With larger differences a run may be trained twice for a while, but is never mixed: a holder
that was overtaken detects it at its next renewal and stops writing.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from uuid import uuid4

from degradation.errors import LockLost, UserError
from degradation.store.filenames import LEASE
from degradation.store.objects import CREATING, Objects

TTL = 60.0  # seconds
MARGIN = 0.25  # of TTL: for clock differences and running requests
RENEWALS = 4  # in TTL

_proven: set[str] = set()  # roots whose store has refused a second creation


@dataclass(frozen=True, kw_only=True)
class LeaseTerms:
    """Content of a lease object. ``expires``: seconds since 1970, 0 if it was released."""

    holder: str
    host: str
    expires: float


FREE = LeaseTerms(holder="", host="", expires=0.0)


class Lease:
    """The lease of one folder, held by this object or not. The caller retries its requests."""

    def __init__(self, objects: Objects, folder: str, clock: Callable[[], float] = time.time) -> None:
        self.objects, self.folder, self.clock, self.ttl = objects, folder, clock, TTL
        self.holder = uuid4().hex
        self.number = 0
        self.expires = 0.0
        self._lost = False
        self._mutex = threading.RLock()
        self._ended = threading.Event()

    def is_live(self) -> bool:
        """Whether any process holds the folder now."""
        return self._terms(self._highest()).expires > self.clock()

    def take(self) -> bool:
        """Take the folder if it is free; False if another process holds it or was faster."""
        if self.objects.protocol not in CREATING:
            raise UserError(
                f"{self.objects.root}: {self.objects.protocol}:// can be read, but has no locks between "
                f"processes: expected a path, s3://, gs:// or az://"
            )
        number = self._highest()
        return self._is_ours(number) or (self._terms(number).expires <= self.clock() and self._advance(number + 1))

    def keep(self) -> None:
        """Renew it in the background until it is released or lost."""
        threading.Thread(target=self._renew_until_ended, name=f"lease of {self.folder}", daemon=True).start()

    def confirm(self) -> None:
        """Make sure that the folder is held; an expired lease is renewed if no other process has the folder.

        Raises LockLost if another process has it.
        """
        with self._mutex:
            if self._lost or self.clock() >= self.believed:
                self.renew()

    def renew(self) -> None:
        """Extend the lease. LockLost if another process has taken or deleted the folder."""
        with self._mutex:
            if self._lost or not self._is_ours(self._highest()):
                self._lose()
            if self.clock() < self.believed:
                expires = self.clock() + self.ttl
                self._write(expires)
                self.expires = expires
            elif not self._advance(self.number + 1):
                self._lose()

    def release(self) -> None:
        """Free the folder now; if the store cannot be reached, the lease expires on its own."""
        self._ended.set()
        with self._mutex, suppress(Exception):
            if not self._lost and self.clock() < self.believed:
                self._write(0.0)

    @property
    def believed(self) -> float:
        """The time until which no other process can have taken the folder."""
        return self.expires - MARGIN * self.ttl

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self.ttl / RENEWALS):
            try:
                self.renew()
            except LockLost:
                return  # the next write detects it
            except Exception:
                continue  # unreachable: retried later and before the next write

    def _lose(self) -> None:
        self._lost = True
        place = self.objects.root / self.folder
        raise LockLost(f"{place}: another process has taken over: this one did not renew its lease in time")

    def _is_ours(self, number: int) -> bool:
        """Whether a lease belongs to this object, even if the answer to its creation was lost."""
        if number == 0 or self._terms(number).holder != self.holder:
            return False
        if number != self.number:
            self.number, self.expires = number, self._terms(number).expires
        return True

    def _advance(self, number: int) -> bool:
        """Create the lease of this number; False if another process has it or a higher one."""
        expires = self.clock() + self.ttl
        data = self._content(expires)
        if not self.objects.create(self._name(number), data):
            return False
        self._prove(number, data)
        numbers = self._numbers()
        if max(numbers, default=0) != number:  # this process was suspended: others have held and released the folder
            self.objects.delete(self._name(number))
            return False
        self.number, self.expires = number, expires
        for older in set(numbers) - {number}:
            self.objects.delete(self._name(older))
        return True

    def _prove(self, number: int, data: bytes) -> None:
        """Check once that the store refuses to create an existing file: some servers ignore that condition."""
        if self.objects.root in _proven:
            return
        if self.objects.create(self._name(number), data):
            raise UserError(
                f"{self.objects.root}: this store overwrites existing files (no If-None-Match), so it has no "
                f"locks between processes: use a newer server, or a path"
            )
        _proven.add(self.objects.root)

    def _numbers(self) -> list[int]:
        names = self.objects.children(self.folder)
        return [int(name[len(LEASE) :]) for name in names if name.startswith(LEASE) and name[len(LEASE) :].isdigit()]

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _name(self, number: int) -> str:
        return f"{self.folder}/{LEASE}{number}"

    def _terms(self, number: int) -> LeaseTerms:
        """Content of a lease; number 0 and a missing or unreadable lease count as expired: the next number decides."""
        if number == 0:
            return FREE
        try:
            return LeaseTerms(**json.loads(self.objects.get(self._name(number))))
        except (FileNotFoundError, ValueError, TypeError):
            return FREE

    def _content(self, expires: float) -> bytes:
        host = f"{socket.gethostname()}, process {os.getpid()}"
        return json.dumps(asdict(LeaseTerms(holder=self.holder, host=host, expires=expires))).encode()

    def _write(self, expires: float) -> None:
        self.objects.put(self._name(self.number), self._content(expires))
