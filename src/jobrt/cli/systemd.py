"""Messages to systemd, or to another service manager with its protocol: ready, status, watchdog, stopping."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from jobrt._core.escape import printable
from jobrt.events import Event, WorkerStarted, WorkerStopping

_INTERVAL: Final = 1.0
"""Seconds between two looks at the status, if no watchdog needs to hear more often."""
_STATUS_LIMIT: Final = 500
_logger = logging.getLogger("jobrt")

Look = Callable[[], Awaitable[tuple[bool, str]]]
"""Function that returns whether the process lives, and its status in one line."""


@attrs.define(eq=False)
class ServiceManager:
    """Datagram socket of a service manager; ``watchdog`` is how often it must hear from the process, in seconds."""

    address: str
    watchdog: float = math.inf
    _status: str = ""
    _failed: bool = False
    _unsent: list[str] = attrs.Factory(list)

    @classmethod
    def from_environment(cls) -> ServiceManager | None:
        """Return the service manager that started this process, and hide it from processes that jobs start."""
        found = {
            name: os.environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        own = found["WATCHDOG_PID"] in {"", str(os.getpid())}
        usec = int(found["WATCHDOG_USEC"]) if own and found["WATCHDOG_USEC"].isdecimal() else 0
        address = found["NOTIFY_SOCKET"]
        return cls(address, usec / 1e6 or math.inf) if address.startswith(("/", "@")) else None

    def send(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1``; what the manager does not take is reported once, and sent again."""
        address = (
            "\0" + self.address[1:] if self.address.startswith("@") else self.address
        )  # Linux: without a file
        self._unsent = [*self._unsent, *assignments]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto("\n".join(self._unsent).encode(), address)
        except OSError as error:
            if not self._failed:
                _logger.warning("the service manager cannot be told %s: %s", assignments[0], error)
            self._failed = True
            self._unsent = [one for one in self._unsent if one in {"READY=1", "STOPPING=1"}]
        else:
            self._unsent = []

    def tell_status(self, text: str) -> None:
        """Send a line for people, if it has changed."""
        text = printable(" ".join(text.split()))[:_STATUS_LIMIT]
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")

    def __call__(self, event: Event) -> None:
        """Tell that a worker of this process is up, or that it stops."""
        match event:
            case WorkerStarted():
                self.send("READY=1")
            case WorkerStopping():
                self.send("STOPPING=1")
            case _:
                pass

    @property
    def interval(self) -> float:
        """Seconds between two messages: half of what the watchdog allows."""
        return min(_INTERVAL, self.watchdog / 2)

    async def watch(self, look: Look) -> None:
        """Tell the status and feed the watchdog, as long as the process lives, until cancelled."""
        while True:
            lives, status = await look()
            self.tell_status(status)
            if lives and math.isfinite(self.watchdog):
                self.send("WATCHDOG=1")
            await trio.sleep(self.interval)
