"""Stored jobs as results of Django's tasks."""

import os
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.tasks import Task, TaskResult, TaskResultStatus  # pyright: ignore[reportMissingImports] # Django 6
from django.tasks.base import TaskError  # pyright: ignore[reportMissingImports] # Django 6
from django.utils import timezone
from django.utils.module_loading import import_string

from jobrt._records import AttemptRecord, End, JobRecord, State

_STATUS: Final = {
    State.EXECUTING: TaskResultStatus.RUNNING,
    State.COMPLETED: TaskResultStatus.SUCCESSFUL,
    State.CANCELLED: TaskResultStatus.FAILED,
    State.DISCARDED: TaskResultStatus.FAILED,
}
"""Status for each state; of the others, in which the job waits, it is READY."""

_ERROR_OF: Final = {
    End.TIMED_OUT: "builtins.TimeoutError",
    End.CANCELLED: "jobrt.errors.JobCancelled",
    End.UNDECODABLE: "jobrt.errors.UndecodablePayload",
    End.LEASE_LOST: "jobrt.errors.LeaseLost",
}
_NO_ERROR: Final = frozenset({End.FINISHED, End.SNOOZED, End.INTERRUPTED})


def find_task(path: str) -> Any:
    """Return the task at a path.

    Raises:
        LookupError: there is none.

    """
    try:
        found = import_string(path)
    except ImportError as error:
        raise LookupError(f"there is no task {path}: {error}") from error
    if not isinstance(found, Task):
        raise LookupError(f"{path} is not a task: decorate the function with django.tasks.task")  # noqa: TRY004 - of a stored path
    return found


def result_of(record: JobRecord, *, alias: str) -> Any:
    """Return Django's result for a stored job of the backend.

    Raises:
        LookupError: there is no such task in this process.

    """
    after = record.metadata.get("run_after")
    task = find_task(record.args["task"]).using(
        priority=record.priority,
        queue_name=record.queue,
        backend=alias,
        run_after=None if after is None else datetime.fromisoformat(after),
    )
    running = record.state is State.EXECUTING
    workers = [attempt.worker for attempt in record.attempts if attempt.end is not End.SNOOZED]
    first = record.attempts[0].started_at if record.attempts else record.started_at
    result: Any = TaskResult(
        task=task,
        id=str(record.id),
        status=_STATUS.get(record.state, TaskResultStatus.READY),
        enqueued_at=in_django(record.created_at),
        started_at=in_django(first),
        last_attempted_at=in_django(record.started_at),
        finished_at=in_django(record.finished_at),
        args=record.args["args"],
        kwargs=record.args["kwargs"],
        backend=alias,
        errors=list(_errors(record)),
        worker_ids=[*workers, record.worker or _this_process()] if running else workers,
    )
    change(result, _return_value=record.result)
    return result


def _this_process() -> str:
    """Return the beginning of this worker's id, which a running job does not know."""
    return f"{socket.gethostname()}.{os.getpid()}"


def change(result: Any, **fields: Any) -> None:
    """Change fields of a result, which Django's backends do although it is frozen."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


def in_django(moment: datetime | None) -> datetime | None:
    """Return a time as Django's settings want it: naive and local without ``USE_TZ``."""
    if moment is None or settings.USE_TZ or timezone.is_naive(moment):
        return moment
    naive: datetime = timezone.make_naive(moment)
    return naive


def error_of(error: BaseException, traceback: str) -> Any:
    """Return Django's record of an exception."""
    kind = type(error)
    return TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=traceback)


def _errors(record: JobRecord) -> Iterator[Any]:
    for attempt in record.attempts:
        if attempt.end not in _NO_ERROR:
            text = attempt.traceback or f"{attempt.message or attempt.end}\n"
            yield TaskError(exception_class_path=_path_of(attempt), traceback=text)
    if record.state is State.CANCELLED and not any(a.end is End.CANCELLED for a in record.attempts):
        reason = f"{record.cancel_reason or 'cancelled'}\n"
        yield TaskError(exception_class_path=_ERROR_OF[End.CANCELLED], traceback=reason)


def _path_of(attempt: AttemptRecord) -> str:
    """Return the path of the exception's class. The record has its name, and the traceback begins a line with it."""
    name = attempt.error_type
    if name is None:
        return _ERROR_OF.get(attempt.end, "jobrt.errors.JobFailed")
    lines = re.findall(rf"^([\w.]*\.{re.escape(name)})(?::|$)", attempt.traceback or "", re.MULTILINE)
    return lines[-1] if lines else f"builtins.{name}"
