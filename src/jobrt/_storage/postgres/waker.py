"""Hints sent to workers: rate-limited, but never dropped.

A transaction that notifies locks the whole database at its commit. So a client notifies each queue at most once
every five milliseconds. The first job of a burst notifies with its insert. Later hints within the interval are sent
together after it: with the next insert, or, if there is none, by a background task of the storage.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from time import monotonic
from typing import Final, Self

import attrs
import trio

from jobrt._storage.postgres.claim import Watermarks
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.encode import texts
from jobrt._storage.postgres.keys import KnownKeys
from jobrt._storage.postgres.names import CONTROL
from jobrt.errors import StorageError

_INTERVAL: Final = 0.005
"""Seconds between notifications for one queue."""

_SLACK: Final = 0.001
"""Seconds that the task waits for another insert. With an insert a notification is free; here it costs a round trip."""

_QUEUES_REMEMBERED: Final = 1000


@attrs.define(eq=False)
class InsertWake:
    """Wakes of one insert: sent with it where that is due, otherwise after the block, when the insert has ended.

    If they were sent earlier, workers would find nothing. If the block fails, all are sent: for jobs enqueued before,
    and for this insert, which may have been committed after all.
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
    watermarks: Watermarks = attrs.field(init=False, factory=Watermarks)
    keys: KnownKeys = attrs.field(init=False, factory=KnownKeys)
    _sent_at: dict[str, float] = attrs.field(init=False, factory=dict)
    _pending: set[str] = attrs.field(init=False, factory=set)
    _wanted: trio.Event = attrs.field(init=False, factory=trio.Event)

    def insert(self) -> InsertWake:
        """Return the wakes for one insert of this client."""
        return InsertWake(self)

    def channel_if_due(self, queue: str) -> str | None:
        """Return the channel if this queue may be notified now, and count it as notified.

        The caller's notification also covers the pending hints: their jobs were committed before.
        """
        payload = f"j:{queue}"
        now = monotonic()
        if not self.database.listening or now - self._sent_at.get(payload, -math.inf) < _INTERVAL:
            return None
        self._note(payload, now)
        self._pending.discard(payload)
        return self.database.channel

    def in_transaction(self, _queue: str) -> str | None:
        """Return the channel for an insert in a caller's transaction, whose commit time is unknown here."""
        return self.database.channel

    def later(self, queues: Collection[str]) -> None:
        """Notify queues in the background that they have jobs."""
        if queues and self.database.listening:
            for queue in queues:
                self._pending.add(f"j:{queue}")
            self._wanted.set()

    def due_again(self, queues: Collection[str]) -> None:
        """Notify queues of due jobs that are not new; they may lie below this client's watermarks."""
        for queue in queues:
            self.watermarks.request_full(queue)
        self.later(queues)

    def control(self) -> None:
        """Notify workers in the background of cancel requests or settings."""
        if self.database.listening:
            self._pending.add(CONTROL)
            self._wanted.set()

    def _pause(self) -> float:
        """Return the seconds until a pending hint must be sent; an insert may send it earlier."""
        last = min((self._sent_at.get(payload, -math.inf) for payload in self._pending), default=-math.inf)
        return last + _INTERVAL + _SLACK - monotonic()

    def _note(self, payload: str, now: float) -> None:
        if len(self._sent_at) > _QUEUES_REMEMBERED:
            self._sent_at.clear()
        self._sent_at[payload] = now

    async def run(self) -> None:
        """Send pending hints when they are due, until cancelled; then send the rest."""
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
        now = monotonic()
        for payload in payloads:
            self._note(payload, now)
        # An error is ignored: workers also poll, and most likely their own connection is lost too.
        try:
            with suppress(StorageError):
                await self.database.fetch(
                    "wakes/notify", channel=self.database.channel, payloads=texts(payloads)
                )
        except trio.Cancelled:
            self._pending.update(
                payloads
            )  # the client is closing: `run` sends them at the end, perhaps twice
            raise
