"""Decorators and methods of an app that declare its jobs and cron entries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from jobrt._client.hooks import EnqueueHook
from jobrt._core.cron import CronEntry, Missed, cron_entry
from jobrt._registry import (
    FunctionJob,
    Job,
    JobDecorator,
    JobKeywords,
    JobWithOptions,
    Registry,
    make_function_job,
    new_job,
    stored_options,
    take_apart,
    tick_job,
)
from jobrt._runtime.hookable import Hookable
from jobrt._runtime.hooks import AttemptHook
from jobrt.errors import InvalidSetting

if TYPE_CHECKING:
    P = ParamSpec("P")
    R = TypeVar("R")


class Declared(Hookable):
    """Base class of `App`: its jobs and cron entries."""

    def __init__(
        self,
        registry: Registry,
        around_attempt: Iterable[AttemptHook] = (),
        around_enqueue: Iterable[EnqueueHook] = (),
    ) -> None:
        super().__init__(around_attempt, around_enqueue)
        self.registry: Registry = registry
        self.crons: dict[str, CronEntry] = {}

    @overload
    def job(self, function: Callable[Concatenate[Any, P], R], /) -> FunctionJob[P, R]: ...
    @overload
    def job(self, function: None = None, /, **options: Unpack[JobKeywords]) -> JobDecorator: ...
    def job(self, function: Any = None, /, **options: Any) -> Any:
        """Convert a function to a job: ``@app.job`` or ``@app.job(max_attempts=3, …)``.

        The parameters after the first, ``ctx``, are the payload. ``resize.new(...)`` returns the job value, and
        ``resize(...)`` is a plain call. The keywords are the constants of a job class in lower case.

        Raises:
            InvalidJob: the function cannot be a job; the message names the parameter.
            DuplicateJobName: the name is taken.

        """
        if function is None:
            return lambda decorated: self._function_job(decorated, options)
        return self._function_job(function, options)

    def _function_job(self, function: Any, options: Mapping[str, Any]) -> Any:
        job = make_function_job(function, **options)
        self.registry.add(job)
        return job

    def cron(
        self,
        expression: str,
        job: Job | JobWithOptions[Any],
        *,
        timezone: str = "UTC",
        name: str | None = None,
        missed: Missed = "once",
    ) -> str:
        """Add a cron entry and return its name: each tick enqueues a single job, with any number of workers.

        Args:
            expression: five fields, or six with seconds first, or an alias such as ``@daily``.
            job: job value, with or without options.
            timezone: time zone of the expression.
            name: name of the entry. By default it consists of job, schedule and payload, and is the same at every
                start.
            missed: policy for ticks that passed while no worker ran: ``"skip"`` enqueues no job for them, ``"once"``
                a job for all of them, ``"all"`` a job for each.

        Raises:
            InvalidSetting: the expression is invalid (the message names the field), or the name is taken.

        """
        return self._add_cron(job, expression=expression, timezone=timezone, missed=missed, name=name)

    def every(
        self,
        interval: timedelta | float,
        job: Job | JobWithOptions[Any],
        *,
        name: str | None = None,
        missed: Missed = "once",
    ) -> str:
        """Add a cron entry that ticks every `interval` (seconds or a timedelta); otherwise as `cron`."""
        return self._add_cron(job, interval=interval, missed=missed, name=name)

    def _add_cron(self, job: Job | JobWithOptions[Any], **schedule: Any) -> str:
        new = new_job(self.registry, job)
        entry = cron_entry(
            new.name,
            args=json.loads(new.args),
            options=stored_options(job),
            version=new.version,
            first_name=take_apart(job)[0].first_name,
            **schedule,
        )
        if entry.name in self.crons:
            raise InvalidSetting(
                f"there are two cron entries {entry.name!r}: use another name for one of them"
            )
        self.crons[entry.name] = entry
        return entry.name

    def _tick_job(self, entry: CronEntry) -> JobWithOptions[Any] | None:
        return tick_job(
            self.registry, entry.job, args=entry.args, options=entry.options, version=entry.version
        )
