"""Recent reports of the watchdog and of hooks that fail, which the heartbeat stores for operators."""

import os
import re
from pathlib import Path

import attrs
import trio

from jobrt._core.text import storable
from jobrt._core.worker_info import Notice
from jobrt._runtime.channels import Wakeup
from jobrt.events import Event, EventBus, JobNotBegun, JobStuck, QueueStalled

_SECONDS = 600.0
"""Seconds for which a notice is shown."""
_SAME_HOOK = 60.0
"""Seconds in which the same failure of a hook is reported once."""
_LIMIT = 20
_FRAME = re.compile(r'File "(.+)", line (\d+), in (\S+)')
_NOT_JOB_CODE = tuple(str(Path(file).parent) for file in (trio.__file__, __file__, os.__file__))
"""Directories that do not contain a job's own code: Trio, this package, Python's library."""


@attrs.define(eq=False)
class Notices:
    """Newest notices, one for each job (or queue, or hook) and reason."""

    emit: EventBus
    beat_now: Wakeup
    _kept: dict[tuple[str, int | str], tuple[float, Notice]] = attrs.Factory(dict)

    def observe(self, event: Event) -> None:
        """Emit an event and send a heartbeat immediately; keep it if it is a report of the watchdog or about a hook.

        A hook may fail for every job, so the same report of it is made once a minute.
        """
        if isinstance(event, JobNotBegun) and self._is_known(event):
            return
        self._note(event)
        self.beat_now.ring()
        self.emit(event)

    def _note(self, event: Event) -> None:
        match event:
            case JobStuck(job_id, name, why, seconds, stack):
                notice = Notice(what=why, job=job_id, name=name, seconds=seconds, at=place(stack))
                self._keep((why, job_id), notice)
            case QueueStalled(queue, due, free):
                self._keep(("stalled", queue), Notice(what="stalled", queue=queue, due=due, free=free))
            case JobNotBegun(hook=hook, problem=problem):
                self._keep(("hook", hook), Notice(what="hook", name=hook, problem=storable(problem)))
            case _:
                pass

    def _is_known(self, event: JobNotBegun) -> bool:
        since, notice = self._kept.get(("hook", event.hook), (0.0, None))
        same = notice is not None and notice.problem == storable(event.problem)
        return same and trio.current_time() - since < _SAME_HOOK

    def _keep(self, key: tuple[str, int | str], notice: Notice) -> None:
        self._kept.pop(key, None)
        self._kept[key] = trio.current_time(), notice
        if len(self._kept) > _LIMIT:
            del self._kept[next(iter(self._kept))]

    def recent(self) -> tuple[Notice, ...]:
        """Return the notices, oldest first, each with the seconds since it was reported."""
        now = trio.current_time()
        return tuple(
            attrs.evolve(notice, ago=round(now - since, 1))
            for since, notice in self._kept.values()
            if now - since < _SECONDS
        )


def place(stack: str) -> str:
    """Return the innermost line of the job's own code in a stack: ``shop.py:12 in run``."""
    frames = _FRAME.findall(stack)
    own = [frame for frame in frames if _is_job_code(frame[0])] or frames
    if not own:
        return ""
    file, line, function = own[-1]
    return storable(f"{Path(file).name}:{line} in {function}")


def _is_job_code(file: str) -> bool:
    installed = "site-packages" in file and not file.startswith(_NOT_JOB_CODE[:2])
    return installed or not file.startswith(_NOT_JOB_CODE)
