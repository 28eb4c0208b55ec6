"""What one attempt logs and emits: collected from any thread, and written in batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import trio

from jobrt._core.stored import json_object
from jobrt._core.stream import BYTES_KEPT, ENTRIES_KEPT, Append, Entry
from jobrt._core.text import in_one_line
from jobrt._runtime.job_log import JobLogger, heard, job_fields, line_of, log_level
from jobrt._runtime.running import Running
from jobrt._storage.stream_store import StreamStore
from jobrt.errors import StorageUnavailable

_INTERVAL: Final = 0.02
"""Minimum seconds between two writes of log lines. Values are written at once, and lines before them, too."""
_RETRY: Final = 0.5
"""Seconds until lines are written again while the database is unavailable."""
_LAST: Final = 1.0
"""Seconds that the last write of an attempt may take: its outcome waits for it."""

_logger = logging.getLogger("jobrt")


@attrs.define(eq=False)
class JobStream:
    """Entries of an attempt that wait to be written.

    Entries are numbered in the attempt, from 1. At most so many wait as the storage keeps. Then the oldest ones are
    dropped, which readers see as a gap.
    """

    running: Running
    store: StreamStore
    later: Callable[[float, Callable[[], Awaitable[None]]], None]
    token: trio.lowlevel.TrioToken
    _log: JobLogger | None = None
    _lock: threading.Lock = attrs.Factory(threading.Lock)
    """For what several threads change: `_waiting`, `_bytes`, `_dropped`, `_added`, `_due`, `_ended`."""
    _waiting: deque[tuple[float, Entry]] = attrs.Factory(deque)
    _bytes: int = 0
    _dropped: int = 0
    _added: int = 0
    _due: bool = False
    _ended: bool = False
    _writing: trio.Lock = attrs.Factory(trio.Lock)
    _batch: Append | None = None
    """The batch that is being written. If its reply is lost, the same batch is sent again."""
    _batches: int = 0
    _taken: int = 0
    _written: int = 0
    """Number of the last entry that was written, or dropped."""
    _written_at: float = float("-inf")

    # ------------------------------------------------------------------ log lines

    @property
    def log(self) -> JobLogger:
        """The logger whose lines are added."""
        if self._log is None:
            job = self.running.job
            metadata = json_object(job.metadata)
            fields = job_fields(job.id, job.name, queue=job.queue, attempt=job.attempt, metadata=metadata)
            self._log = JobLogger(fields, log_level(), store=self._add_record)
        return self._log

    def log_told(self, values: Mapping[str, Any]) -> None:
        """Log a record of which the job's process has told."""
        record = self.log.with_fields(heard(values))
        if self.log.isEnabledFor(record.levelno):
            self.log.handle(record)

    def _add_record(self, record: logging.LogRecord) -> None:
        """Add a line, from any thread; it is written soon. The thread of a job notices here that it is cancelled."""
        with self._lock:
            self._add(Entry("log", line_of(record)))
            scheduled, self._due = self._due, True
        if not scheduled:
            if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self.token:
                self._schedule()
            else:
                self.token.run_sync_soon(self._schedule)
        if self.running.thread == threading.get_ident():
            trio.from_thread.check_cancelled()

    def _schedule(self) -> None:
        self.later(max(0.0, self._written_at + _INTERVAL - trio.current_time()), self._write_soon)

    async def _write_soon(self) -> None:
        self._due = False
        if self._ended:
            return
        try:
            await self.write()
        except StorageUnavailable:
            self._due = True  # so that lines which are added meanwhile schedule no other write
            self.later(_RETRY, self._write_soon)
        except (
            Exception
        ):  # a bug, or what this database cannot store: no reason to fail a job that did its work
            _logger.exception("job %d: its log lines could not be written", self.running.job.id)

    # ------------------------------------------------------------------ writing

    async def emit(self, value: str, key: str | None) -> bool:
        """Add a value and write it, with all before it; False if the lease is lost. Raises what `write` does."""
        with self._lock:
            number = self._add(Entry("emit", value, key))
        return await self.write(number)

    def _add(self, entry: Entry) -> int:
        """Add an entry, and return its number."""
        if not self._ended:
            self._added += 1
            self._waiting.append((time.monotonic(), entry))
            self._bytes += len(entry.value)
        while len(self._waiting) > ENTRIES_KEPT or self._bytes > BYTES_KEPT:
            _, gone = self._waiting.popleft()
            self._bytes -= len(gone.value)
            self._dropped += 1
        return self._added

    async def write(self, upto: int | None = None) -> bool:
        """Write the entries up to this number, by default all that there are now; False if the lease is lost.

        Raises:
            StorageUnavailable: the entries stay, and are written later.
            StorageError: the database refused the batch, which is dropped.

        """
        last = self._added if upto is None else upto
        async with self._writing:
            while self._written < last:
                if self._batch is None:
                    self._batch = self._next_batch()
                try:
                    held = await self.store.append(self._batch)
                except StorageUnavailable:
                    raise
                except Exception:
                    self._end_batch()
                    raise
                self._end_batch()
                if not held:
                    self.end()
        return not self._ended

    def _next_batch(self) -> Append:
        with self._lock:
            now = time.monotonic()
            entries = tuple([entry._replace(age=now - at) for at, entry in self._waiting])
            dropped, self._dropped, self._bytes, self._taken = self._dropped, 0, 0, self._added
            self._waiting.clear()
        self._batches += 1
        return Append(*self.running.ref, self._batches, entries, dropped)

    def _end_batch(self) -> None:
        self._batch, self._written, self._written_at = None, self._taken, trio.current_time()

    def end(self) -> int:
        """Take no more entries; return how many are not written."""
        with self._lock:
            left, self._ended = self._added - self._written, True
            self._waiting.clear()
            self._bytes, self._batch, self._written = 0, None, self._added
        return left

    async def write_last(self) -> None:
        """Write all entries of an attempt that is over. What cannot be written now is lost, and counted in the log."""
        # Shielded: the attempt has ended, so a cancellation must not replace its outcome.
        problem = f"that took longer than {_LAST:g} s"
        with trio.move_on_after(_LAST, shield=True):
            try:
                await self.write()
            except Exception as error:  # noqa: BLE001 - the attempt has its outcome, whatever becomes of its lines
                problem = in_one_line(error)
        if left := self.end():
            _logger.warning(
                "job %d: %d of its last log lines are lost: %s", self.running.job.id, left, problem
            )
