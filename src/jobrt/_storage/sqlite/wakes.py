"""Wakes in SQLite: immediate for changes by this process, by a word from others, and by polling in any case."""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from jobrt._storage.contract import Wake
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.sockets import SOON, WORK, Ear, Sockets

_POLL: Final = 0.02
_IDLE_POLL: Final = 0.06
_IDLE: Final = 2.0
"""Seconds without a foreign write after which `_IDLE_POLL` replaces `_POLL`, the seconds between checks for one.

A check costs 5 µs, but waking up for it costs some 150 µs in an idle program; so polling takes 0.25 % of a core.
"""

_WITH_SOCKET: Final = 10
"""Multiple of those seconds for a listener with a socket, which is told. It may miss what no jobrt has written."""

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
        pause = _IDLE_POLL if now - self.database.noticed_at > _IDLE else _POLL
        return self.looked_at + (pause if self.ear is None else pause * _WITH_SOCKET)

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
