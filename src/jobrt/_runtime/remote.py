"""A job's side of a process: its `ctx`, its end, and the connection to the worker.

Nothing here needs Trio. Messages are JSON, one a line::

    job ──▶ worker    the token · {"progress": […]} · {"checkpoint": "JSON text"}
    worker ──▶ job    {"saved": null} or {"error": [type, text]}, for a checkpoint · {"cancelled": [stop, reason]}
"""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from jobrt import errors
from jobrt._core.attempts import Stop, only_leaf
from jobrt._core.job import JobRecord, Progress
from jobrt._core.results import After, Cancel, Discard, Snooze, Throttle
from jobrt._core.text import Description, clipped, describe
from jobrt._payload.payload import encode_result
from jobrt._runtime.checked import checked_progress, checkpoint_text
from jobrt._runtime.working_directory import WorkingDirectory

_INTERVAL: Final = 0.1
"""Seconds between two messages about progress; the worker writes at most two a second."""
_HAS: Final = "ctx.job, ctx.saved, ctx.cancelled, ctx.progress(…) and ctx.checkpoint(…)"
_VERDICTS: Final = (After, Cancel, Discard, Snooze, Throttle)
_ERRORS: Final = {
    error.__name__: error for error in (errors.LeaseLost, errors.StorageUnavailable, errors.SchemaError)
}


class Stopped(BaseException):
    """Raised by ``ctx`` in a process when the attempt is cancelled, as `trio.Cancelled` is elsewhere."""


# ------------------------------------------------------------------ how it ends


@attrs.frozen
class Returned:
    """End of a job that returned a verdict (`Snooze` and others), or a result as JSON text."""

    verdict: Any = None
    text: str | None = None


@attrs.frozen
class Raised:
    """End of a job that raised: what is recorded of it, and the exception itself if it survives pickling."""

    description: Description
    pickled: bytes | None


@attrs.frozen
class WasStopped:
    """End of a job that noticed its cancellation."""


def run(
    function: Callable[..., Any], job: Any, context: tuple[JobRecord, Place]
) -> Returned | Raised | WasStopped:
    """Run a job in this process; the next job finds the current directory as it was.

    The process has the worker's environment, but for the URL of the jobs' database, which may have a password: the
    job reaches the worker through its context, and programs that it starts inherit the environment.
    """
    record, place = context
    os.environ.pop("JOBRT_URL", None)
    directory, link = WorkingDirectory(), Link(place)
    try:
        value = function(job, ProcessContext(record, link))
        link.flush()
        return (
            Returned(verdict=value) if isinstance(value, _VERDICTS) else Returned(text=encode_result(value))
        )
    except Stopped:
        return WasStopped()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is this job's alone
        return Raised(describe(only_leaf(error)), _pickled(only_leaf(error)))
    finally:
        link.close()
        directory.restore()


def _pickled(error: BaseException) -> bytes | None:
    """Return an exception for the worker, where RETRY sees it; None if it could not be read there."""
    try:
        text = pickle.dumps(error)
        pickle.loads(text)  # noqa: S301 - made in the line above
    except BaseException:  # noqa: BLE001 - its class has its own ideas of pickling
        return None
    return text


# ------------------------------------------------------------------ what it has


class ProcessContext:
    """Context of a job with ``RUN_IN = "process"``: its record and checkpoint, and calls without ``await``.

    ``progress`` and ``checkpoint`` notice when the attempt is cancelled or its time is over. Then they raise what ends
    it; it is no `Exception`. A job that calls neither looks at ``cancelled``. A second later the process is killed.
    """

    def __init__(self, job: JobRecord, link: Link) -> None:
        self.job = job
        self.saved = job.saved
        self._link = link

    @property
    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why this attempt is told to stop, and the words; or None."""
        return self._link.cancelled()

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is; written at most twice a second."""
        self._link.report(checked_progress(self.job.name, done, total=total, note=note))
        self._link.raise_if_cancelled()

    def checkpoint(self, value: Any) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        self._link.raise_if_cancelled()
        self._link.save(checkpoint_text(self.job.name, value))
        self.saved = value

    def __getattr__(self, name: str) -> Any:
        problem = (
            f'ctx.{name}: a job with RUN_IN = "process" has {_HAS}; run it in a thread or in Trio for more'
        )
        if name.startswith("_"):
            raise AttributeError(problem)
        raise errors.InvalidJob(problem)


@attrs.frozen
class Place:
    """Address on which the worker listens for one attempt, and the token that the job shows."""

    address: str | tuple[str, int]
    token: str


class Link:
    """Connection to the worker, made when it is first used."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._socket: socket.socket | None = None
        self._received = b""
        self._cancelled: tuple[Stop, str] | None = None
        self._progress: Progress | None = None
        self._reported = -_INTERVAL
        self._lock = threading.RLock()  # a job may have threads

    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why the attempt is to stop, if the worker has said so."""
        with self._lock:
            connection = self._connected()
            while self._cancelled is None and select.select([connection], [], [], 0)[0]:
                self._note(self._receive())
            return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raise what ends a cancelled attempt."""
        cancelled = self.cancelled()
        if cancelled is not None:
            self.flush()
            raise Stopped(cancelled[1])

    def report(self, progress: Progress) -> None:
        """Tell the progress, or keep it for later if some was told a moment ago."""
        self._progress, now = progress, time.monotonic()
        if now - self._reported >= _INTERVAL:
            self._reported = now
            self.flush()

    def flush(self) -> None:
        """Tell the newest progress."""
        with self._lock:
            if self._progress is not None:
                progress, self._progress = self._progress, None
                self._send({"progress": [progress.done, progress.total, progress.note]})

    def save(self, text: str) -> None:
        """Have the worker store a checkpoint, and wait until it has."""
        with self._lock:
            self._send({"checkpoint": text})
            while "saved" not in (message := self._receive()):
                if "error" in message:
                    kind, words = message["error"]
                    raise _ERRORS.get(kind, errors.StorageError)(words)
                self._note(message)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            address = self._place.address
            family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.connect(address)
            self._socket.sendall(self._place.token.encode() + b"\n")
        return self._socket

    def _send(self, message: dict[str, Any]) -> None:
        self._connected().sendall(json.dumps(message).encode() + b"\n")

    def _receive(self) -> dict[str, Any]:
        """Return the next message of the worker."""
        while b"\n" not in self._received:
            part = self._connected().recv(65536)
            if not part:
                raise Stopped("the worker is gone")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        if "cancelled" in message:
            stop, reason = message["cancelled"]
            self._cancelled = Stop(stop), clipped(reason)
