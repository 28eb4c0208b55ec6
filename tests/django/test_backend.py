"""The backend for Django's Tasks: enqueueing, results, failures, transactions and settings."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

pytest.importorskip("django.tasks", reason="needs Django 6.0, which needs Python 3.12")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.tasks import TaskResultStatus, default_task_backend
from django.tasks.exceptions import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.test import override_settings
from django.utils import timezone

import jobrt
import jobrt.django
from jobrt import where
from jobrt.blocking import Client
from jobrt.django import Backend
from tests.django import tasks
from tests.django.conftest import Configure
from tests.otel.recording import Recording
from tests.parity.jobs import Echo
from tests.support.in_asyncio import run_asyncio


def run_worker() -> None:
    """Run what is due."""

    async def main() -> None:
        with trio.fail_after(40):
            await default_task_backend.app.drain()

    trio.run(main)


def test_a_task_runs(configure: Configure) -> None:
    """Its result is there when a worker has run it; functions and coroutines, with the arguments as they came."""
    assert isinstance(configure(), Backend)
    first, second = tasks.add.enqueue(1, b=2), tasks.double.enqueue(4)
    assert (first.status, first.args, first.kwargs, first.attempts) == (
        TaskResultStatus.READY,
        [1],
        {"b": 2},
        0,
    )
    assert (first.enqueued_at is None, first.started_at) == (False, None)
    with pytest.raises(ValueError, match="not finished"):
        first.return_value  # noqa: B018 - it raises
    run_worker()
    for result, value in ((first, 3), (second, {"twice": 8})):
        result.refresh()
        assert (result.status, result.is_finished, result.return_value) == (
            TaskResultStatus.SUCCESSFUL,
            True,
            value,
        )
        assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
        assert (result.attempts, result.errors) == (1, [])


def test_a_result_is_found_again(configure: Configure) -> None:
    """By its id, equal to that of the enqueue; by pickle too. Options of the task are those of the enqueue."""
    configure(["default", "mail"])
    later = timezone.now() + timedelta(hours=1)
    changed = tasks.add.using(priority=7, queue_name="mail", run_after=later)
    for task in (tasks.add, changed):
        result = task.enqueue(1)
        assert default_task_backend.get_result(result.id) == result
        assert tasks.add.get_result(result.id).task == task
        assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own
    run_worker()
    assert changed.get_result(result.id).status == TaskResultStatus.READY
    with Client(default_task_backend.app.url) as jobs:
        record = jobs.get(int(result.id))
    assert (record.queue, record.priority, record.schedule_at) == ("mail", 7, later)


@pytest.mark.parametrize("wrong", ["123456", "-1", "no number", "1e3", "٣", 10**30])
def test_a_result_that_is_not_there(configure: Configure, wrong: Any) -> None:
    """It is Django's error, for whatever an id may be."""
    configure()
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(wrong)


def test_the_job_of_another_is_no_result(configure: Configure) -> None:
    """Neither is a job that is no task, nor the result of another task."""
    configure()
    with Client(default_task_backend.app.url) as jobs:
        other = jobs.enqueue(Echo("x"))
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(str(other.id))
    with pytest.raises(TaskResultMismatch):
        tasks.add.get_result(tasks.double.enqueue(1).id)


def test_a_task_that_raises_fails(configure: Configure) -> None:
    """It is not run again. The result has the exception's class and its traceback; SystemExit ends it alone."""
    configure()
    raised = {
        "tests.django.tasks.Refused": (tasks.fail.enqueue(9), "Refused: several\nlines\n"),
        "builtins.SystemExit": (tasks.leave.enqueue(), "SystemExit: enough\n"),
        "builtins.TypeError": (tasks.odd.enqueue(), "TypeError: Unsupported type: <class 'object'>\n"),
    }
    run_worker()
    for path, (result, text) in raised.items():
        result.refresh()
        assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 1, 1)
        assert result.errors[0].exception_class_path == path
        assert issubclass(result.errors[0].exception_class, BaseException)
        assert result.errors[0].traceback.endswith(text)
        with pytest.raises(ValueError, match="Task failed"):
            result.return_value  # noqa: B018 - it raises


def test_a_task_can_be_retried(configure: Configure) -> None:
    """With `max_attempts` it is ready again after a failure, and all errors are kept."""
    configure(max_attempts=3)
    result = tasks.fail.enqueue(2)
    for status in (TaskResultStatus.READY, TaskResultStatus.READY, TaskResultStatus.SUCCESSFUL):
        run_worker()
        result.refresh()
        assert result.status == status
        if not result.is_finished:
            with Client(default_task_backend.app.url) as jobs:
                jobs.update(int(result.id), schedule_in=0)
    assert (result.attempts, len(result.errors), result.return_value) == (3, 2, 3)


def test_a_cancelled_task_has_failed(configure: Configure) -> None:
    """An operator's reason is its error."""
    configure()
    result = tasks.add.enqueue(1)
    with Client(default_task_backend.app.url) as jobs:
        jobs.cancel(int(result.id), "not needed")
    result.refresh()
    assert (result.status, result.errors[0].traceback) == (TaskResultStatus.FAILED, "not needed\n")
    assert result.errors[0].exception_class is jobrt.JobCancelled


def test_priorities_and_queues(configure: Configure) -> None:
    """Higher priorities run first. The worker serves QUEUES, with the concurrency of the options."""
    backend = configure(["default", "mail"])
    assert {name: queue.concurrency for name, queue in backend.app.queues.items()} == {
        "default": 10,
        "mail": 10,
    }
    with override_settings(
        TASKS={
            "default": {
                "BACKEND": "jobrt.django.Backend",
                "QUEUES": ["default", "mail"],
                "OPTIONS": {"url": backend.app.url, "queues": {"default": 1}},
            }
        }
    ):
        for priority in (-100, 5, 100):
            tasks.add.using(priority=priority).enqueue(priority)
        tasks.add.using(queue_name="mail").enqueue(0)
        run_worker()
    assert [call[0] for call in tasks.CALLS if call[0]] == [100, 5, -100]
    with pytest.raises(InvalidTask, match="Queue 'none' is not valid"):
        tasks.add.using(queue_name="none").enqueue(0)


def test_a_context_is_passed(configure: Configure) -> None:
    """It has the id, the attempt and the worker of the run."""
    configure()
    result = tasks.context.enqueue(5)
    run_worker()
    result.refresh()
    assert result.return_value == [result.id, 1, 5, "RUNNING", 1]


def test_signals_are_sent(configure: Configure) -> None:
    """Enqueued, started and finished, each with the status of that moment; a failure with its error."""
    configure()
    seen: list[Any] = []

    def note(sender: Any, task_result: Any, **_: Any) -> None:
        assert sender is Backend
        seen.append((task_result.task.name, str(task_result.status), len(task_result.errors)))

    signals = (task_enqueued, task_started, task_finished)
    for signal in signals:
        signal.connect(note)
    try:
        tasks.add.enqueue(1)
        run_worker()
        tasks.leave.enqueue()
        run_worker()
    finally:
        for signal in signals:
            signal.disconnect(note)
    ends = [("add", "SUCCESSFUL", 0), ("leave", "FAILED", 1)]
    assert seen == [step for end in ends for step in ((end[0], "READY", 0), (end[0], "RUNNING", 0), end)]


def test_hooks_are_around_tasks(configure: Configure) -> None:
    """The application of a backend is always the same one, so that a project can add hooks and subscribers to it."""
    configure()
    seen: list[Any] = []

    @jobrt.django.app.around_attempt
    async def note(ctx: jobrt.Context, run: Any) -> Any:
        seen.append(ctx.job.args["task"])
        return await run()

    tasks.add.enqueue(1)
    run_worker()
    assert seen == [tasks.add.module_path]
    with override_settings(TASKS={"default": {**settings.TASKS["default"], "QUEUES": ["default", "more"]}}):
        assert set(jobrt.django.app.queues) == {"default", "more"}


def test_a_task_is_in_the_trace_of_its_request(configure: Configure) -> None:
    """An instrumented application makes a span for each task that is enqueued, in whatever thread, and run."""
    configure()
    recording = Recording()
    recording.instrument(jobrt.django.app)
    with recording.tracers.get_tracer("site").start_as_current_span("request"):
        tasks.add.enqueue(1)
    run_worker()
    request, send = recording.span("request"), recording.span("send default")
    process = recording.span("process default")
    parents = [span.parent.span_id for span in (send, process) if span.parent is not None]
    assert parents == [span.get_span_context().span_id for span in (request, send)]
    assert sum(recording.points("messaging.client.sent.messages").values()) == 1


def test_from_asyncio(configure: Configure) -> None:
    """`aenqueue` and `aget_result` do the same in a thread."""
    configure()

    ids: list[str] = []

    async def enqueue() -> None:
        ids.append((await tasks.add.aenqueue(1, 2)).id)

    async def look() -> None:
        assert (await tasks.add.aget_result(ids[0])).return_value == 3
        with pytest.raises(TaskResultDoesNotExist):
            await tasks.add.aget_result("123456")

    run_asyncio(enqueue)
    run_worker()
    run_asyncio(look)


@pytest.mark.parametrize("url_too", [False, True])
def test_djangos_transaction_decides(
    configure: Configure, shop: Any, database_url: str, url_too: bool
) -> None:
    """With `database`, tasks are enqueued in the open transaction of Django, and with its rows rolled back."""
    configure(database="shop", url=database_url if url_too else None)
    tasks.add.enqueue(1)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="shop"):
        tasks.add.enqueue(2)
        raise ZeroDivisionError
    with transaction.atomic(using="shop"):
        result = tasks.add.enqueue(3)
        assert (result.status, result.enqueued_at is not None) == (TaskResultStatus.READY, True)
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(result.id)
    run_worker()
    assert sorted(call[0] for call in tasks.CALLS) == [1, 3]
    result.refresh()
    assert result.return_value == 4


def test_on_commit_hooks_work(configure: Configure, shop: Any) -> None:
    """Django's own way, for jobs in another database: the task is enqueued after the commit."""
    configure()
    with transaction.atomic(using="shop"):
        transaction.on_commit(lambda: tasks.add.enqueue(1), using="shop")
        with Client(default_task_backend.app.url) as jobs:
            assert jobs.count() == 0
    run_worker()
    assert tasks.CALLS == [(1, 1)]


def test_a_task_that_no_worker_would_find(configure: Configure) -> None:
    """It is refused when it is enqueued: its module has no task by that name."""
    configure()
    with pytest.raises(InvalidTask, match=r"tests\.django\.tasks\._hidden is not a task"):
        tasks.nowhere.enqueue()
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.add.enqueue(datetime.now(UTC))
    with Client(default_task_backend.app.url) as jobs:
        assert jobs.count() == 0


def test_a_task_that_is_not_there_yet_waits(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker with older code leaves it for a minute, without an attempt; after a day it has failed."""
    configure()
    result = tasks.add.enqueue(1)
    known = tasks.add
    with monkeypatch.context() as patch:
        patch.delattr(tasks, "add")
        run_worker()
        with Client(default_task_backend.app.url) as jobs:
            record = jobs.get(int(result.id))
            assert (record.state, record.attempt) == (jobrt.State.SCHEDULED, 0)
            assert "start a worker with the code that has it" in caplog.text
            with pytest.raises(TaskResultDoesNotExist):
                default_task_backend.get_result(result.id)
            patch.setattr("jobrt.django.run._UNKNOWN_FOR", timedelta(0))
            jobs.update(where.everything(), schedule_in=0)
        run_worker()
    failed = known.get_result(result.id)
    assert (failed.status, failed.errors[0].exception_class) == (TaskResultStatus.FAILED, LookupError)


def test_times_without_time_zones(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without USE_TZ, Django's times are naive and local, in and out."""
    monkeypatch.setenv("TZ", "UTC")  # Django changes it with its setting; it is restored after the test
    configure()
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Kathmandu"):
        soon = datetime.now() + timedelta(hours=1)  # noqa: DTZ005 - as Django has it
        result = tasks.add.using(run_after=soon).enqueue(1)
        assert result.enqueued_at.tzinfo is None
        assert default_task_backend.get_result(result.id).task.run_after == soon


WRONG = {
    "it is not said where jobs are stored: add 'url'.* or 'database'": {"url": None},
    "the option 'urll' is unknown: did you mean url": {"urll": "x"},
    "'database' is 'nowhere': use default": {"url": None, "database": "nowhere"},
    "'max_attempts' is 0: use an int of at least 1": {"max_attempts": 0},
    "'max_attempts' is True": {"max_attempts": True},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_options_are_refused(backend: Configure, message: str) -> None:
    """One line names the backend, the option and the remedy."""
    with pytest.raises(InvalidTaskBackend, match=rf"^TASKS\['default'\]: {message}"):
        backend(**{"url": "sqlite:///x.db", **WRONG[message]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "mysql://localhost/x"}, "is not a database URL"),
        ({"grace": -1}, "grace"),
        ({"lease": "long"}, "lease"),
        ({"queues": {"mail": "many"}}, "mail"),
    ],
)
def test_options_of_an_app_are_refused_by_it(
    backend: Configure, options: dict[str, Any], message: str
) -> None:
    """The error names the backend too, for workers and for those that enqueue."""
    configured = backend(**{"url": "sqlite:///x.db", **options})
    with pytest.raises(ImproperlyConfigured, match=rf"^TASKS\['default'\]: .*{message}"):
        configured.app  # noqa: B018 - it raises


def test_a_database_that_workers_cannot_use(backend: Configure, tmp_path: Path) -> None:
    """One in memory, or of another engine, is refused with a line that says so."""
    settings = {"default": {}, "memory": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    settings["maria"] = {"ENGINE": "django.db.backends.mysql", "NAME": "x"}
    found = connections.configure_settings(settings)
    for alias, message in (("memory", "is in memory"), ("maria", "is of mysql")):
        connections.settings[alias] = found[alias]
        try:
            with pytest.raises(InvalidTaskBackend, match=message):
                backend(database=alias).app  # noqa: B018 - it raises
        finally:
            del connections.settings[alias]
