"""Wakes in SQLite: immediate for changes by this process, by a word from others, and by polling in any case."""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from jobrt._core.pulse import next_pulse
from jobrt._storage.contract import Wake
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.sockets import SOON, WORK, Ear, Sockets

_POLL: Final = 0.02
_IDLE_POLL: Final = 0.06
"""Seconds between two looks for a foreign write without a socket. A look costs 5 µs, but waking up for it some 150 µs
in an idle program; so polling takes 0.25 % of a core."""

_TOLD_POLL: Final = 0.2
_TOLD_IDLE_POLL: Final = 1.0
"""The same with a socket. The listener is told, and may miss only what no jobrt has written."""

_IDLE: Final = 2.0
"""Seconds without a foreign write after which the listener is idle."""

_HURRY: Final = 5.0
"""Seconds in which a caller's transaction with new jobs is expected to commit."""

_GAP: Final = 0.005
"""Seconds between two checks at least, so that many quick commits elsewhere do not cause as many claims."""


@attrs.frozen
class SqliteWakes:
    """Implementation of `WakeSource`."""

    _database: Database

    async def listen(
        self,
        deliver: Callable[[Wake], None],
        *,
        news: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        hub = self._database.hub
        with hub.listening(deliver, news=news):
            started = False
            while (sockets := hub.sockets) is not None:  # again, when the socket is of no use any more
                with sockets.listening(news=news) as ear:
                    if not started:
                        task_status.started()
                    started = True
                    await _Watch(self._database, sockets, ear, news).run()
            task_status.started()  # in memory: no other process can write to it
            await trio.sleep_forever()


@attrs.define(eq=False)
class _Watch:
    """Loop that looks for commits of others, when it is told to and from time to time."""

    database: Database
    sockets: Sockets
    ear: Ear | None
    news: bool
    """Every commit concerns the listener, since it follows jobs."""
    hurry_until: float = -math.inf
    looked_at: float = -math.inf
    undecided: bool = False
    """The last look had to be put off."""

    async def run(self) -> None:
        """Look until the socket is of no use: its file is gone, or another database is in the place of the open one."""
        ear = None if self.ear is None else trio.socket.from_stdlib_socket(self.ear.socket)
        while self.database.hub.sockets is self.sockets and not (self.ear and self.ear.missing()):
            with trio.move_on_at(self.next_look) as scope:
                await self._told(ear, scope)
            self.looked_at = trio.current_time()
            self.undecided = not self.database.notice_others()

    @property
    def next_look(self) -> float:
        """The time of the next look if nobody tells."""
        now = trio.current_time()
        if self.undecided or now < self.hurry_until:
            return self.looked_at + _POLL
        idle = now - self.database.noticed_at > _IDLE
        if self.ear is None:
            return self.looked_at + (_IDLE_POLL if idle else _POLL)
        return next_pulse(now, _TOLD_IDLE_POLL) if idle else self.looked_at + _TOLD_POLL

    async def _told(self, ear: trio.socket.SocketType | None, scope: trio.CancelScope) -> None:
        """Wait for a word that is a reason to look now; without a socket for ever."""
        if ear is None:
            await trio.sleep_forever()
            return
        while (word := await ear.recv(1)) != WORK:
            if word == SOON:
                self.hurry_until = trio.current_time() + _HURRY
                scope.deadline = self.next_look
            elif self.news or self.database.hub.awaits:
                break
        await trio.sleep_until(self.looked_at + _GAP)
