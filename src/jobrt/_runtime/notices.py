"""Remember what the watchdog told lately, so that the heartbeat can tell it to people on other machines."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import attrs
import trio

from jobrt.events import Event, JobStuck, QueueStalled

__all__ = ["Notices"]

_KEPT = 600.0
"""Seconds for which a notice is told."""
_MOST = 20
_FRAME = re.compile(r'File "(.+)", line (\d+), in (\S+)')
_NOT_ITS_OWN = tuple(str(Path(file).parent) for file in (trio.__file__, __file__, os.__file__))
"""Where nobody looks for what a job does: in Trio, in the actors that run it, in Python's library."""


@attrs.define(eq=False)
class Notices:
    """Keep the newest notices, one for each job (or queue) and reason."""

    _kept: dict[tuple[str, int | str], tuple[float, dict[str, Any]]] = attrs.Factory(dict)

    def note(self, event: Event) -> None:
        """Remember an event, if it is the watchdog's."""
        match event:
            case JobStuck(job_id, name, why, seconds, stack):
                notice = {"what": why, "job": job_id, "name": name, "seconds": seconds, "at": place(stack)}
                self._keep((why, job_id), notice)
            case QueueStalled(queue, due, free):
                self._keep(("stalled", queue), {"what": "stalled", "queue": queue, "due": due, "free": free})
            case _:
                pass

    def _keep(self, key: tuple[str, int | str], notice: dict[str, Any]) -> None:
        self._kept.pop(key, None)
        self._kept[key] = trio.current_time(), notice
        if len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]

    def told(self) -> list[dict[str, Any]]:
        """Return them, JSON-able, the oldest first, each with the seconds since it was told."""
        now = trio.current_time()
        return [
            {**notice, "ago": round(now - since, 1)}
            for since, notice in self._kept.values()
            if now - since < _KEPT
        ]


def place(stack: str) -> str:
    """Return the innermost line of a stack that is the job's own: ``shop.py:12 in run``."""
    frames = _FRAME.findall(stack)
    own = [frame for frame in frames if _is_own(frame[0])] or frames
    if not own:
        return ""
    file, line, function = own[-1]
    return f"{Path(file).name}:{line} in {function}"


def _is_own(file: str) -> bool:
    installed = "site-packages" in file and not file.startswith(_NOT_ITS_OWN[:2])
    return installed or not file.startswith(_NOT_ITS_OWN)
