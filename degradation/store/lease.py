"""The lock of a folder in a store that has none: numbered objects with an expiry, each created once.

``.lease-N`` says who holds the folder and until when. It is renewed while it is held; when it is released or has
expired, whoever creates N+1 first holds it next, which the store itself decides. The highest number counts, and it is
never deleted, so that numbers never begin again under a process that slept.

Clocks of machines that share a study must agree within a quarter of ``TTL`` (15 seconds): a holder believes in its
lease for three quarters of it. Clocks further apart cost a run that is trained twice for a while, never a mixed one:
who was overtaken finds that out at its next renewal and writes no more.
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
MARGIN = 0.25  # of TTL: for clocks that differ and requests under way
RENEWALS = 4  # in TTL

_proven: set[str] = set()  # roots whose store was seen to refuse a second creation


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a lease object says. ``expires``: seconds since 1970, 0 where it was released."""

    holder: str
    host: str
    expires: float


FREE = Terms(holder="", host="", expires=0.0)


class Lease:
    """The lease of one folder, held by this object or not. Its requests are not repeated: the caller does that."""

    def __init__(self, objects: Objects, folder: str, clock: Callable[[], float] = time.time) -> None:
        self.objects, self.folder, self.clock, self.ttl = objects, folder, clock, TTL
        self.holder = uuid4().hex
        self.number = 0
        self.expires = 0.0
        self._lost = False
        self._mutex = threading.RLock()
        self._ended = threading.Event()

    def is_live(self) -> bool:
        """Whether anybody holds the folder now."""
        return self._terms(self._highest()).expires > self.clock()

    def take(self) -> bool:
        """Hold the folder where nobody does; False where somebody does, or was faster."""
        if self.objects.protocol not in CREATING:
            raise UserError(
                f"{self.objects.root}: {self.objects.protocol}:// can be read, but two processes cannot be kept apart "
                f"there: expected a path, s3://, gs:// or az://"
            )
        number = self._highest()
        return self._is_ours(number) or (self._terms(number).expires <= self.clock() and self._advance(number + 1))

    def keep(self) -> None:
        """Renew it in the background until it is released or lost."""
        threading.Thread(target=self._renew_until_ended, name=f"lease of {self.folder}", daemon=True).start()

    def confirm(self) -> None:
        """Return while the folder is held; what could not be renewed in time is taken anew where nobody came between.

        Raises LockLost where somebody did.
        """
        with self._mutex:
            if self._lost or self.clock() >= self.believed:
                self.renew()

    def renew(self) -> None:
        """Prolong it. LockLost where another process has taken the folder, or deleted it."""
        with self._mutex:
            if self._lost or not self._is_ours(self._highest()):
                self._lose()
            if self.clock() < self.believed:
                self.expires = self._write(self.clock() + self.ttl)
            elif not self._advance(self.number + 1):
                self._lose()

    def release(self) -> None:
        """Let the next one in at once; where the store cannot be reached now, the lease expires by itself."""
        self._ended.set()
        with self._mutex, suppress(Exception):
            if not self._lost and self.clock() < self.believed:
                self._write(0.0)

    @property
    def believed(self) -> float:
        """Until when nobody else can have taken it."""
        return self.expires - MARGIN * self.ttl

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self.ttl / RENEWALS):
            try:
                self.renew()
            except LockLost:
                return  # the next write finds it out
            except Exception:
                continue  # unreachable: tried again in a while, and before the next write

    def _lose(self) -> None:
        self._lost = True
        place = self.objects.root / self.folder
        raise LockLost(f"{place}: another process has taken over: this one did not renew its lease in time")

    def _is_ours(self, number: int) -> bool:
        """Whether a lease is this object's: also one that was created though the answer got lost on its way."""
        if number == 0 or self._terms(number).holder != self.holder:
            return False
        if number != self.number:
            self.number, self.expires = number, self._terms(number).expires
        return True

    def _advance(self, number: int) -> bool:
        """Create the lease of this number; False where another has it or a higher one."""
        expires = self.clock() + self.ttl
        data = self._said(expires)
        if not self.objects.create(self._name(number), data):
            return False
        self._prove(number, data)
        numbers = self._numbers()
        if max(numbers, default=0) != number:  # one that slept since it looked: others have come and gone
            self.objects.delete(self._name(number))
            return False
        self.number, self.expires = number, expires
        for older in set(numbers) - {number}:
            self.objects.delete(self._name(older))
        return True

    def _prove(self, number: int, data: bytes) -> None:
        """See once that the store refuses to create what is there: some servers do not look at the condition."""
        if self.objects.root in _proven:
            return
        if self.objects.create(self._name(number), data):
            raise UserError(
                f"{self.objects.root}: this store creates a file where there is one already (no If-None-Match): two "
                f"processes cannot be kept apart there; take a newer server, or a path"
            )
        _proven.add(self.objects.root)

    def _numbers(self) -> list[int]:
        names = self.objects.children(self.folder)
        return [int(name[len(LEASE) :]) for name in names if name.startswith(LEASE) and name[len(LEASE) :].isdigit()]

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _name(self, number: int) -> str:
        return f"{self.folder}/{LEASE}{number}"

    def _terms(self, number: int) -> Terms:
        """What a lease says; none (0), or one that is gone or unreadable, has expired: the next number decides."""
        if number == 0:
            return FREE
        try:
            return Terms(**json.loads(self.objects.get(self._name(number))))
        except (FileNotFoundError, ValueError, TypeError):
            return FREE

    def _said(self, expires: float) -> bytes:
        host = f"{socket.gethostname()}, process {os.getpid()}"
        return json.dumps(asdict(Terms(holder=self.holder, host=host, expires=expires))).encode()

    def _write(self, expires: float) -> float:
        self.objects.put(self._name(self.number), self._said(expires))
        return expires
