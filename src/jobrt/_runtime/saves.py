"""What one attempt saves before its outcome; `Context` and the contexts of jobs outside Trio share it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NoReturn

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import Progress
from jobrt._core.stored import json_value
from jobrt._runtime.checked import checked_step
from jobrt._runtime.job_stream import JobStream
from jobrt._runtime.running import Running
from jobrt._runtime.services import Services
from jobrt._runtime.waits import DurableWaits
from jobrt.errors import LeaseLost, StorageError

_logger = logging.getLogger("jobrt")

_PROGRESS_INTERVAL: Final = 0.5
"""Minimum seconds between two writes of a job's progress; the newest value is written."""
_LAST_PROGRESS: Final = 1.0
"""Time limit in seconds for writing the last progress of an attempt that has ended."""


@attrs.define(eq=False)
class Step:
    """Named step of a job: if `todo` is set, do the work and store its `value` for later attempts."""

    name: str
    todo: bool
    value: Any = None


@attrs.define(eq=False)
class Saves:
    """Checkpoints, progress, steps, log lines, emitted values and waits of one attempt.

    It takes values that are checked, and text that is JSON. An attempt that needs none of this has none.
    """

    running: Running
    services: Services
    saved: Any = None
    """The last checkpoint of this attempt."""
    around_step: Callable[[str], AbstractContextManager[Any]] = nullcontext
    """Scope to enter while a step is done; see `Context.around_steps`."""
    _progress_at: float = float("-inf")
    _progress: Progress | None = None
    _progress_due: bool = False
    _progress_written: trio.Event | None = None
    """Set when the write that is under way has ended."""
    _steps: dict[str, str] | None = None
    _waits: DurableWaits | None = None
    _stream: JobStream | None = None

    @property
    def waits(self) -> DurableWaits:
        """What the job waits for."""
        if self._waits is None:
            self._waits = DurableWaits(self.running, self.services.scopes)
        return self._waits

    @property
    def stream(self) -> JobStream:
        """What this attempt adds to the job's stream."""
        if self._stream is None:
            services = self.services
            self._stream = JobStream(self.running, services.streams, services.later, services.token)
            self.running.unwritten = self.write_last
        return self._stream

    async def checkpoint(self, text: str, *, forget: bool) -> None:
        """Store a checkpoint; in an attempt that is suspended it does not count."""
        if self.running.stop is Stop.SUSPENDED:
            return
        if not await self.services.attempts.save(self.running.ref, saved=text, forget=forget):
            self.lost()
        if forget:
            self._steps = None
            if self._waits is not None:
                self._waits.forget()

    async def emit(self, text: str, key: str | None) -> None:
        """Store an emitted value."""
        if not await self.stream.emit(text, key):
            self.lost()

    # ------------------------------------------------------------------ progress

    def note_progress(self, progress: Progress) -> bool:
        """Note the newest progress, in any thread; return whether `schedule_progress` is to be called."""
        self._progress = progress
        self.running.unwritten = self.write_last
        return not self._progress_due

    def schedule_progress(self) -> None:
        """Have the newest progress written, at the earliest half a second after the last one."""
        self._progress_due = True
        wait = max(0.0, self._progress_at + _PROGRESS_INTERVAL - trio.current_time())
        self.services.later(wait, self._write_progress)

    async def _write_progress(self) -> None:
        """Write the newest progress now, if it has not been written, and wait for a write that is under way."""
        while self._progress_written is not None:
            await self._progress_written.wait()
        if not self._progress_due or self._progress is None:
            return
        self._progress_due = False
        self._progress_at = trio.current_time()
        text = json.dumps(attrs.asdict(self._progress))
        self._progress_written = written = trio.Event()
        try:
            await self.services.attempts.save(self.running.ref, progress=text)
        except StorageError:
            pass  # progress is only for people; the next value replaces it
        except Exception:  # a bug, which is not to fail a job that did its work
            _logger.exception("job %d: its progress could not be written", self.running.job.id)
        finally:
            self._progress_written = None
            written.set()

    # ------------------------------------------------------------------ steps

    async def find_step(self, name: str) -> Step:
        """Return a step as earlier attempts have left it; raise `InvalidJob` for a name that cannot be stored."""
        checked_step(self.running.job.name, name)
        if self._steps is None:
            kept = self.running.job.kept
            self._steps = dict(await self.services.attempts.steps(self.running.ref)) if kept else {}
        if name in self._steps:
            return Step(name, todo=False, value=json_value(self._steps[name]))
        return Step(name, todo=True)

    async def store_step(self, name: str, text: str) -> None:
        """Store the value of a step that was done; raise `LeaseLost` if another worker owns the job."""
        if not await self.services.attempts.save_step(self.running.ref, name, text):
            self.lost()
        if self._steps is not None:
            self._steps[name] = text

    # ------------------------------------------------------------------ the end

    async def write_last(self) -> None:
        """Write what the attempt has said; see `Running.write_last`."""
        if self._stream is not None:
            await self._stream.write_last()
        if self._progress is not None:
            # Shielded: the attempt has ended, so a cancellation must not replace its outcome.
            with trio.move_on_after(_LAST_PROGRESS, shield=True):
                await self._write_progress()

    def lost(self) -> NoReturn:
        """Cancel the attempt, and raise `LeaseLost`: another worker owns the job."""
        job = self.running.job
        self.running.cancel(Stop.LEASE_LOST, "another worker owns the job")
        raise LeaseLost(f"job {job.id} ({job.name}): another worker owns it now")
