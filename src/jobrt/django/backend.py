"""`Backend`: Django's tasks as jobs."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.tasks import TaskResult, TaskResultStatus  # pyright: ignore[reportMissingImports] # Django 6
from django.tasks.backends.base import BaseTaskBackend  # pyright: ignore[reportMissingImports] # Django 6
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist  # pyright: ignore[reportMissingImports] # Django 6
from django.tasks.signals import task_enqueued  # pyright: ignore[reportMissingImports] # Django 6
from django.utils import timezone

from jobrt._client.hooks import BlockingHook
from jobrt._records import JobRecord
from jobrt._registry import EnqueueKeywords, with_options
from jobrt.app import App
from jobrt.blocking import enqueue_within
from jobrt.django.results import change, find_task, in_django, result_of
from jobrt.django.run import NAME, RunAgain, RunOnce
from jobrt.django.settings import Options, invalid
from jobrt.errors import JobNotFound, JobrtError

_apps: Final[dict[str, tuple[object, App]]] = {}
"""Applications by the alias of their backend, each with what it was made of. Django makes a backend for each thread."""
_making: Final = threading.Lock()


class Backend(BaseTaskBackend):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]  # Django has no types
    """Backend of Django's Tasks that stores tasks as jobs of jobrt.

    Options, in ``TASKS[…]["OPTIONS"]``; one of the first two is needed:

    * ``url``: database of the jobs, ``sqlite:///FILE`` or ``postgresql://…``. A task is stored at once.
    * ``database``: alias of a database of Django. Jobs are stored in it, in the open transaction: after a rollback
      nothing was enqueued. With ``url`` too, workers and results use that.
    * ``max_attempts``: attempts of a task that raises; by default one. A task whose worker dies always runs again.
    * ``timeout``: seconds that an attempt may take, as ``TIMEOUT`` of a job.
    * ``queues``, ``keep``, ``grace``, ``lease``, ``schema``, ``listen``, ``payload_limit``: as of `jobrt.App`. By
      default each of ``QUEUES`` runs ten tasks at a time.

    A result is kept as long as its job, by default for a day if the task was successful.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._options = Options.of(alias, self.options)

    @property
    def retries(self) -> bool:
        """Whether a task that raises may run again."""
        return self._options.max_attempts is not None

    @property
    def database(self) -> str | None:
        """Alias of Django's database in which the jobs are, if they are in one."""
        return self._options.database if self._options.url is None else None

    @property
    def app(self) -> App:
        """The application whose workers run the tasks, the same for all threads: hooks can be added to it."""
        url = self._options.database_url()
        made_of = (self._options, url, self.queues)
        with _making:
            if self.alias not in _apps or _apps[self.alias][0] != made_of:
                _apps[self.alias] = (made_of, self._make_app(url))
            return _apps[self.alias][1]

    def _make_app(self, url: str) -> App:
        given: dict[str, Any] = dict(self._options.app)
        queues = {**dict.fromkeys(sorted(self.queues), 10), **given.pop("queues", {})}
        job = RunAgain if self.retries else RunOnce
        try:
            return App(url, jobs=[job], queues=queues, state=self, **given)
        except JobrtError as error:
            raise invalid(self.alias, str(error)) from error

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Store a task and return its result, which is not there yet.

        Raises:
            InvalidTask: the task is invalid, or workers could not find it.
            TypeError: an argument is not JSON.
            StorageError: the database refused it.

        """
        self.validate_task(task)
        self._check_place(task)
        result: Any = TaskResult(
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        self._store(task, result)
        task_enqueued.send(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task; raise ``TaskResultDoesNotExist`` if there is none, or no such task any more."""
        try:
            return result_of(self._get(result_id), alias=self.alias)
        except LookupError as error:
            raise TaskResultDoesNotExist(
                str(error) if isinstance(error, JobNotFound) else result_id
            ) from error

    def _get(self, result_id: str) -> JobRecord:
        text = str(result_id)
        if not (text.isascii() and text.isdecimal()):
            raise LookupError(text)
        record = self._options.client().get(int(text))
        if record.name != NAME:
            raise LookupError(text)
        return record

    def _store(self, task: Any, result: Any) -> None:
        """Insert the job of a result, in Django's transaction if the options say so."""
        client, conn = self._options.client(), self._options.connection()
        options: EnqueueKeywords = {
            "queue": task.queue_name,
            "priority": int(task.priority),
            "schedule_at": _aware(task.run_after),
            "timeout": self._options.timeout,
        }
        if task.run_after is not None:
            options["metadata"] = {"run_after": task.run_after.isoformat()}
        if self._options.max_attempts is not None:
            options["max_attempts"] = self._options.max_attempts
        job = (RunAgain if self.retries else RunOnce)(task.module_path, result.args, result.kwargs)
        hook = self._hook()
        if hook is None:
            handle = client.enqueue(job, conn=conn, **options)
        else:
            (handle,) = enqueue_within(hook, client, [with_options(job, **options)], conn=conn)
        # The time of the database, by which results are looked up, once the job can be seen.
        in_transaction = conn is not None and conn.in_atomic_block
        now = timezone.now() if in_transaction else client.get(handle.id).created_at
        change(result, id=str(handle.id), enqueued_at=in_django(now))

    def _hook(self) -> BlockingHook | None:
        """Return what the application has around enqueues, if anybody has asked for it."""
        made = _apps.get(self.alias)
        return None if made is None else made[1]._blocking_hook  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of it

    def _check_place(self, task: Any) -> None:
        """Raise ``InvalidTask`` if a worker would not find the task by its path."""
        try:
            found = find_task(task.module_path)
        except LookupError as error:
            raise InvalidTask(f"a worker would not find this task: {error}") from error
        if found.func is not task.func:
            raise InvalidTask(f"a worker would not find this task: {task.module_path} is another one")


def _aware(moment: Any) -> Any:
    """Return a time as jobs take it; it is naive and local without ``USE_TZ``."""
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment
