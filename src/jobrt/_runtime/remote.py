"""A job's side of a process: its `ctx`, its end, and the connection to the worker. See ``design/run-in.md``.

Nothing here needs Trio. Messages are JSON, one a line::

    job ──▶ worker    the token
                      {"progress": [done, total, note]}
                      {"checkpoint": [JSON text, forget], "number": n}      answer: null
                      {"enqueue": pickle in base64, "number": n}            answer: [id, duplicate]
                      {"step": name, "number": n}                           answer: null, or [value] if it was done
                      {"step_done": [name, JSON text], "number": n}         answer: null
                      {"step_failed": name}
                      {"emit": [JSON text, key], "number": n}               answer: null
                      {"log": {…}}, the fields of a record
    worker ──▶ job    {"answer": …, "number": n} or {"error": [type, text], "number": n}
                      {"cancelled": [stop, reason]}
                      {"shutting_down": true}
"""

from __future__ import annotations

import base64
import json
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import Any, Final, Unpack

import attrs

from jobrt import errors
from jobrt._core.arguments import checked_flag
from jobrt._core.attempts import Stop, only_leaf
from jobrt._core.job import JobRecord, Progress
from jobrt._core.stream import checked_emit
from jobrt._core.text import Description, clipped, describe, in_one_line
from jobrt._payload.payload import encode_result
from jobrt._registry import (
    VERDICTS,
    Enqueueable,
    EnqueueKeywords,
    JobWithOptions,
    Registry,
    new_job,
    with_options,
)
from jobrt._runtime.checked import checked_progress, checked_step, checkpoint_text, json_text
from jobrt._runtime.job_log import JobLogger, job_fields, told
from jobrt._runtime.job_process import end_with_the_worker, pickled_error
from jobrt._runtime.outside_trio import OutsideTrio
from jobrt._runtime.saves import Step
from jobrt._runtime.working_directory import WorkingDirectory
from jobrt.blocking import Enqueued

_INTERVAL: Final = 0.1
"""Seconds between two messages about progress; the worker writes at most two a second."""
_HAS: Final = (
    "ctx.job, saved, cancelled, deadline, shutting_down, log, and the calls progress, checkpoint, step, enqueue"
    " and emit"
)
_LAST_WRITE: Final = 1.0
"""Seconds for storing what a cancelled job has done."""
_GONE: Final = "the connection to the worker broke"
_ERRORS: Final[Mapping[str, type[Exception]]] = {
    name: vars(errors)[name]
    for name in errors.__all__
    if not isinstance(vars(errors)[name].__init__, FunctionType)
}
"""Errors of jobrt that are made of a text alone."""


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
    function: Callable[..., Any], job: Any, context: tuple[JobRecord, Place, float]
) -> Returned | Raised | WasStopped:
    """Run a job in this process; the next job finds the current directory as it was.

    The process has the worker's environment, but for the URL of the jobs' database, which may have a password: the
    job reaches the worker through its context, and programs that it starts inherit the environment.
    """
    record, place, deadline = context
    os.environ.pop("JOBRT_URL", None)
    end_with_the_worker()
    directory, link = WorkingDirectory(), Link(place)
    try:
        value = function(job, ProcessContext(record, link, deadline))
        link.flush()
        return Returned(verdict=value) if isinstance(value, VERDICTS) else Returned(text=encode_result(value))
    except Stopped:
        return WasStopped()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is this job's alone
        return Raised(describe(only_leaf(error)), pickled_error(only_leaf(error)))
    finally:
        link.close()
        directory.restore()


# ------------------------------------------------------------------ what it has


class ProcessContext(OutsideTrio):
    """Context of a job with ``RUN_IN = "process"``: its record and checkpoint, and calls without ``await``.

    The calls notice when the attempt is cancelled or its time is over. Then they raise what ends it; it is no
    `Exception`. A job that makes none of them looks at ``cancelled``. When the grace is over, the process is killed.
    Until its first use of ``ctx`` a job cannot be told, and is killed at once.

    Attributes:
        saved: the last checkpoint, of this attempt or an earlier one; None if there is none.
        deadline: the attempt's deadline by ``time.monotonic`` (``math.inf`` if it has none).

    """

    _place = "process"

    def __init__(self, job: JobRecord, link: Link, deadline: float = math.inf) -> None:
        self._job = job
        self.saved: Any = job.saved
        self.deadline = deadline
        self._link = link
        self._log: JobLogger | None = None

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        return self._job

    @property
    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why this attempt is told to stop, and the words; or None."""
        return self._link.cancelled()

    @property
    def shutting_down(self) -> ShuttingDown:
        """Return the event that is set when the worker stops, so that a long job can save a checkpoint and return."""
        return ShuttingDown(self._link)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is; written at most twice a second.

        Raises:
            InvalidJob: `done` or `total` is no finite number, or `note` no string.

        """
        self._link.report(checked_progress(self.job.name, done, total=total, note=note))
        self._link.raise_if_cancelled()

    def checkpoint(self, value: Any, *, forget: bool = False) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`. Then raise if the attempt is cancelled.

        `forget` also drops, in the same transaction, the steps so far.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        forget = checked_flag("ctx.checkpoint: forget", forget, error=errors.InvalidJob)
        self._link.keep({"checkpoint": [checkpoint_text(self.job.name, value), forget]})
        self.saved = value
        self._link.raise_if_cancelled()

    @property
    def log(self) -> logging.Logger:
        """Return a logger whose lines are in the job's stream; the worker logs them, too."""
        if self._log is None:
            job = self.job
            fields = job_fields(job.id, job.name, queue=job.queue, attempt=job.attempt, metadata=job.metadata)
            self._log = JobLogger(fields, self._link.log_level, store=self._add_record)
            self._log.propagate = False
        return self._log

    def _add_record(self, record: logging.LogRecord) -> None:
        self._link.say({"log": told(record)})
        self._link.raise_if_cancelled()

    def emit(self, value: Any, *, key: str | None = None) -> None:
        """Add a JSON value of up to 64 KiB to the job's stream, one with a `key` once; see `Context.emit`.

        Raises:
            InvalidJob: the value is not JSON or too large, or the key is invalid.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        text = json_text(value, f"{self.job.name}: ctx.emit")
        self._link.keep({"emit": [text, checked_emit(self.job.name, text, key)]})
        self._link.raise_if_cancelled()

    def enqueue(self, job: Enqueueable[Any], **options: Unpack[EnqueueKeywords]) -> Enqueued:
        """Enqueue another job, by the worker; the options are those of `Client.enqueue`.

        Raises:
            InvalidJob: a value is invalid, or the job's class cannot be imported by the worker. Nothing was stored.

        """
        pickled = _pickled_job(self.job.name, with_options(job, **options))
        self._link.raise_if_cancelled()
        ident, duplicate = self._link.ask({"enqueue": pickled})
        return Enqueued(ident, duplicate)

    @contextmanager
    def step(self, name: str) -> Generator[Step]:
        """Run a named step once over all attempts: ``with ctx.step("x") as step: if step.todo: step.value = …``.

        The value (JSON) is stored when the block ends without an error, also if the attempt is cancelled by then. A
        later attempt gets it, with ``todo`` False.

        Raises:
            InvalidJob: the name cannot be stored, or the value is not JSON.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        checked_step(self.job.name, name)
        self._link.raise_if_cancelled()
        found = self._link.ask({"step": name})
        if found is not None:
            yield Step(name, todo=False, value=found[0])
            return
        step = Step(name, todo=True)
        try:
            yield step
            text = json_text(step.value, f"{self.job.name}: step {name!r}")
        except BaseException:
            with suppress(Stopped):  # what failed is raised instead
                self._link.say({"step_failed": name})
            raise
        self._link.keep({"step_done": [name, text]})
        self._link.raise_if_cancelled()

    def __getattr__(self, name: str) -> Any:
        problem = (
            f'ctx.{name}: a job with RUN_IN = "process" has {_HAS}; run it in a thread or in Trio for more'
        )
        if name.startswith("_"):
            raise AttributeError(problem)
        raise errors.InvalidJob(problem)


@attrs.frozen
class ShuttingDown:
    """Event of a job in a process that is set when the worker stops."""

    _link: Link

    def is_set(self) -> bool:
        """Return whether the worker stops."""
        return self._link.shutting_down()


def _pickled_job(name: str, job: JobWithOptions[Any]) -> str:
    """Return a job for the worker; raise `InvalidJob` if it is invalid or cannot be pickled."""
    new_job(Registry(), job)
    try:
        return base64.b64encode(pickle.dumps(job)).decode()
    except Exception as error:
        raise errors.InvalidJob(
            f"{name}: ctx.enqueue: {job.name} cannot be sent to the worker: {in_one_line(error)}; its class and its "
            f"options must be at the top of a module that can be imported"
        ) from error


@attrs.frozen
class Place:
    """Address on which the worker listens for one attempt, the token that the job shows, and the level of its log."""

    address: str | tuple[str, int]
    token: str
    log_level: int = logging.INFO


class Link:
    """Connection to the worker, made when it is first used."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.log_level: int = place.log_level
        self._socket: socket.socket | None = None
        self._received = b""
        self._cancelled: tuple[Stop, str] | None = None
        self._shutting_down = False
        self._number = 0
        self._progress: Progress | None = None
        self._reported = -_INTERVAL
        self._lock = threading.RLock()  # a job may have threads

    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why the attempt is to stop, if the worker has said so."""
        with self._lock:
            if self._cancelled is None:
                self._read()
            return self._cancelled

    def shutting_down(self) -> bool:
        """Return whether the worker stops, if it has said so."""
        with self._lock:
            if not self._shutting_down:
                self._read()
            return self._shutting_down

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
                self.say({"progress": [progress.done, progress.total, progress.note]})

    def say(self, message: dict[str, Any]) -> None:
        """Tell the worker something that has no answer."""
        with self._lock, _connected():
            self._connection().sendall(json.dumps(message).encode() + b"\n")

    def ask(self, message: dict[str, Any]) -> Any:
        """Tell the worker something and return its answer; raise if the attempt is cancelled meanwhile."""
        return self._answer(message, patient=False)

    def keep(self, message: dict[str, Any]) -> None:
        """Have the worker store something, even if the attempt is cancelled."""
        self._answer(message, patient=True)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def _answer(self, message: dict[str, Any], *, patient: bool) -> Any:
        with self._lock:
            self._number += 1
            self.say({**message, "number": self._number})
            until = self._until(patient=patient)
            while (answer := self._receive(until)).get("number") != self._number:
                if self._note(answer):
                    until = self._until(patient=patient)
        if "error" in answer:
            kind, words = answer["error"]
            raise _ERRORS[kind](words) if kind in _ERRORS else RuntimeError(f"{kind}: {words}")
        return answer["answer"]

    def _until(self, *, patient: bool) -> float | None:
        """Return until when to wait for an answer; None for ever, while the attempt is not cancelled."""
        if self._cancelled is None:
            return None
        return time.monotonic() + (_LAST_WRITE if patient else 0.0)

    def _read(self) -> None:
        """Note what has arrived."""
        with _connected():
            connection = self._connection()
        while b"\n" in self._received or _readable(connection, 0.0):
            self._note(self._receive())

    def _connection(self) -> socket.socket:
        if self._socket is None:
            address = self._place.address
            family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.connect(address)
            self._socket.sendall(self._place.token.encode() + b"\n")
        return self._socket

    def _receive(self, until: float | None = None) -> dict[str, Any]:
        """Return the next message of the worker; raise what ends the attempt if none has come `until` then."""
        while b"\n" not in self._received:
            with _connected():
                connection = self._connection()
                if until is not None and not _readable(connection, max(0.0, until - time.monotonic())):
                    raise Stopped("the attempt was cancelled meanwhile")
                part = connection.recv(65536)
            if not part:
                raise Stopped(_GONE)
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> bool:
        """Note what the worker has told; return whether the attempt is cancelled."""
        if "cancelled" in message:
            stop, reason = message["cancelled"]
            self._cancelled = Stop(stop), clipped(reason)
        elif "shutting_down" in message:
            self._shutting_down = True
        return self._cancelled is not None


def _readable(connection: socket.socket, seconds: float) -> bool:
    with _connected():
        if connection.fileno() < 0:
            raise OSError("the job has closed it")
        return bool(multiprocessing.connection.wait([connection], seconds))


@contextmanager
def _connected() -> Generator[None]:
    """Raise what ends the attempt if the connection breaks."""
    try:
        yield
    except OSError as error:
        raise Stopped(_GONE) from error
