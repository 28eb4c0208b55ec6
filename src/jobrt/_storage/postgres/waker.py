"""Hints sent to workers: not too often, and never not at all.

A transaction that notifies takes a lock of the whole database at its commit. So a client notifies each queue at most
every five milliseconds. The first job of a burst notifies with its insert. What comes within the interval is sent
together afterwards: with the first insert after its end, or, if none comes, by a task of the storage's own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final, Self

import attrs
import trio

from jobrt._storage.postgres.claim import Marks
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.encode import texts
from jobrt.errors import StorageError

CONTROL: Final = "c"

_INTERVAL: Final = 0.005
"""Seconds between notifications for one queue."""

_SLACK: Final = 0.001
"""Seconds that the task leaves to the next insert, where a notification costs nothing; here it costs a round trip."""

_QUEUES_REMEMBERED: Final = 1000


@attrs.define(eq=False)
class InsertWake:
    """Wakes of one insert: sent with it where that is due, else once the block, and so the insert, has ended.

    Not before, or workers would look and find nothing. If the block fails all are sent, for jobs that came before,
    and for the insert's own, as it may have been committed after all.
    """

    waker: Waker
    late: list[str] = attrs.field(init=False, factory=list)
    sent: list[str] = attrs.field(init=False, factory=list)

    def __call__(self, queue: str) -> str | None:
        channel = self.waker.channel_if_due(queue)
        (self.late if channel is None else self.sent).append(queue)
        return channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.waker.later(self.late if kind is None else self.late + self.sent)


@attrs.define(eq=False)
class Waker:
    """Sender of wakes for one client."""

    database: Database
    marks: Marks = attrs.field(init=False, factory=Marks)
    _sent_at: dict[str, float] = attrs.field(init=False, factory=dict)
    _pending: set[str] = attrs.field(init=False, factory=set)
    _wanted: trio.Event = attrs.field(init=False, factory=trio.Event)

    def insert(self) -> InsertWake:
        """Return what decides which queues an insert of ours notifies itself."""
        return InsertWake(self)

    def channel_if_due(self, queue: str) -> str | None:
        """Return the channel if this queue may be notified now, and count it as notified.

        The caller's notification also serves the jobs that are pending: they were committed before.
        """
        payload = f"j:{queue}"
        if not (self.database.listening and self._due(payload)):
            return None
        self._note(payload)
        self._pending.discard(payload)
        return self.database.channel

    def in_transaction(self, _queue: str) -> str | None:
        """Return the channel for an insert in a caller's transaction, which alone knows when it commits."""
        return self.database.channel

    def later(self, queues: Iterable[str]) -> None:
        """Notify queues, from the background, that they have jobs."""
        self._add(f"j:{queue}" for queue in queues)

    def due_again(self, queues: Collection[str]) -> None:
        """Notify queues of due jobs that are not new; for us these may lie below the marks."""
        for queue in queues:
            self.marks.doubt(queue)
        self.later(queues)

    def control(self) -> None:
        """Notify workers, from the background, of cancel requests or settings."""
        self._add([CONTROL])

    def _add(self, payloads: Iterable[str]) -> None:
        if self.database.listening:
            self._pending.update(payloads)
            if self._pending:
                self._wanted.set()

    def _due(self, payload: str) -> bool:
        return trio.current_time() - self._sent_at.get(payload, -math.inf) >= _INTERVAL

    def _pause(self) -> float:
        """Return the seconds until something that is pending is to be sent; inserts may send it before."""
        last = min((self._sent_at.get(payload, -math.inf) for payload in self._pending), default=-math.inf)
        return last + _INTERVAL + _SLACK - trio.current_time()

    def _note(self, payload: str) -> None:
        if len(self._sent_at) > _QUEUES_REMEMBERED:
            self._sent_at.clear()
        self._sent_at[payload] = trio.current_time()

    async def run(self) -> None:
        """Send what is pending, when it is time to, until cancelled; then send what is left."""
        try:
            while True:
                await self._wanted.wait()
                if (pause := self._pause()) > 0:
                    await trio.sleep(pause)
                else:
                    await self._send()
        finally:
            with trio.move_on_after(1.0, shield=True):
                await self._send()

    async def _send(self) -> None:
        self._wanted = trio.Event()
        payloads, self._pending = sorted(self._pending), set()
        if not payloads:
            return
        for payload in payloads:
            self._note(payload)
        # Workers also poll; and the connection that they listen on is lost too, most likely.
        try:
            with suppress(StorageError):
                await self.database.fetch(
                    "wakes/notify", channel=self.database.channel, payloads=texts(payloads)
                )
        except trio.Cancelled:
            self._pending.update(payloads)  # a client that closes: `run` sends them in the end, twice perhaps
            raise
