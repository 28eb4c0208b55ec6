"""The job that runs a task of Django, in a thread of the worker."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from traceback import format_exception
from typing import Any, Final

from django.db import close_old_connections
from django.tasks import TaskContext, TaskResultStatus  # pyright: ignore[reportMissingImports] # Django 6
from django.tasks.signals import task_finished, task_started  # pyright: ignore[reportMissingImports] # Django 6
from django.utils import timezone
from django.utils.json import normalize_json  # pyright: ignore[reportMissingImports] # Django 6
from tenacity import retry_never

from jobrt._core.job import used_up
from jobrt._core.results import Snooze
from jobrt._registry import Job
from jobrt._runtime.thread_context import ThreadContext
from jobrt.django.results import change, error_of, find_task, in_django, result_of

NAME: Final = "django.task"
"""Name of the jobs, whatever task they run: a worker cannot know all tasks, since they may be in any module."""

_UNKNOWN_FOR: Final = timedelta(days=1)
_ASK_AGAIN: Final = timedelta(minutes=1)

_log: Final = logging.getLogger("jobrt.django")


class _RunTask(Job, abstract=True):
    """A task that is run: its path, and what it is called with."""

    RUN_IN = "thread"

    task: str
    args: list[Any]
    kwargs: dict[str, Any]

    def run(self, ctx: ThreadContext) -> Any:
        """Call the task and return what it returns. A task that is not there yet waits, for a day at most."""
        try:
            find_task(self.task)
        except LookupError as error:
            if (ctx.job.started_at or ctx.job.created_at) - ctx.job.created_at > _UNKNOWN_FOR:
                raise
            _log.warning(
                "job %s waits a minute: %s; start a worker with the code that has it", ctx.job.id, error
            )
            return Snooze(_ASK_AGAIN)
        with _connections_closed():
            return _call(ctx)


class RunOnce(_RunTask):
    """Task that is not run again when it raises; it is when its worker dies."""

    NAME = NAME
    RETRY = retry_never


class RunAgain(_RunTask):
    """Task that is run again when it raises, as often as its backend says."""

    NAME = NAME


@contextmanager
def _connections_closed() -> Generator[None]:
    """Close Django's connections of this thread that are too old or broken, as around a request."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def _call(ctx: ThreadContext) -> Any:
    backend, record = ctx.state, ctx.job
    result = result_of(record, alias=backend.alias)
    task, sender = result.task, type(backend)
    task_started.send(sender=sender, task_result=result)
    context = (TaskContext(task_result=result),) if task.takes_context else ()
    try:
        value = normalize_json(task.call(*context, *result.args, **result.kwargs))
    except (Exception, SystemExit) as error:
        result.errors.append(error_of(error, "".join(format_exception(error))))
        last = not backend.retries or used_up(record.attempt, record.max_attempts)
        _finish(result, status=TaskResultStatus.FAILED if last else TaskResultStatus.READY, sender=sender)
        raise
    change(result, _return_value=value)
    _finish(result, status=TaskResultStatus.SUCCESSFUL, sender=sender)
    return value


def _finish(result: Any, *, status: Any, sender: type) -> None:
    """Tell Django how the attempt ended, unless the task runs again."""
    change(result, status=status)
    if result.is_finished:
        change(result, finished_at=in_django(timezone.now()))
        task_finished.send(sender=sender, task_result=result)
