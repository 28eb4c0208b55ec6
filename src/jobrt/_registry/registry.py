"""Registry of the jobs of an app, by name."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from jobrt._core.arguments import refused, shown
from jobrt._core.limits import PAYLOAD_LIMIT
from jobrt._registry.definition import Job, JobDefinition, definition_of
from jobrt._registry.function_jobs import FunctionJob
from jobrt._registry.options import EnqueueOptions, JobWithOptions
from jobrt.errors import DuplicateJobName, InvalidJob, UnknownJob


@attrs.define(eq=False)
class Registry:
    """Jobs of an app by name and alias, and the limit in bytes of their payloads."""

    payload_limit: int = PAYLOAD_LIMIT
    by_name: dict[str, JobDefinition] = attrs.field(factory=dict[str, JobDefinition], init=False)

    def add(self, job: type[Job] | FunctionJob[Any, Any]) -> JobDefinition:
        """Add a job class or a function job, and return its definition; adding it again changes nothing.

        Raises:
            DuplicateJobName: another class has the same name or alias.
            InvalidJob: it is not a job, it is abstract, or an annotation cannot be resolved.

        """
        definition = definition_of(_job_class(job))
        for name in definition.names:
            known = self.by_name.get(name, definition)
            if known is not definition:
                raise DuplicateJobName(_duplicate(name, known, definition))
        self.by_name.update(dict.fromkeys(definition.names, definition))
        return definition

    def get(self, name: str) -> JobDefinition:
        """Return the definition of a job; raise `UnknownJob`, with similar names, if there is no such job."""
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownJob(self._unknown(name)) from None

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.by_name, n=3)
        if close:
            return f"there is no job {shown(name)}; did you mean {' or '.join(map(repr, close))}?"
        return f"there is no job {shown(name)}; the jobs are: {', '.join(sorted(self.by_name)) or 'none'}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names and aliases of the jobs, sorted."""
        return tuple(sorted(self.by_name))

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __iter__(self) -> Iterator[JobDefinition]:
        return iter(dict.fromkeys(self.by_name.values()))

    def __len__(self) -> int:
        return len(dict.fromkeys(self.by_name.values()))


def _duplicate(name: str, known: JobDefinition, definition: JobDefinition) -> str:
    where = f"{_where(known)} and {_where(definition)}"
    if name == known.name == definition.name:
        return f"two jobs have the name {name!r}: {where}; use another NAME for one of them"
    return f"two jobs have the name or alias {name!r}: {where}; remove it from the ALIASES of one of them"


def registry_of(label: str, jobs: object, *, payload_limit: int = PAYLOAD_LIMIT) -> Registry:
    """Return a registry of the jobs; `label` is the name of the argument for messages."""
    if not isinstance(jobs, Iterable) or isinstance(jobs, str | bytes | type):
        raise refused(label, jobs, use="a list of job classes and function jobs", error=InvalidJob)
    registry = Registry(payload_limit)
    for job in jobs:
        try:
            registry.add(job)
        except InvalidJob as error:
            raise InvalidJob(f"{label}: {error}") from None
    return registry


def _job_class(job: object) -> type[Job]:
    if isinstance(job, FunctionJob):
        return job.job_class
    if isinstance(job, type) and issubclass(job, Job):
        return job
    hint = (
        f"the class {type(job).__name__}"
        if isinstance(job, Job)
        else "a jobrt.Job class or an @app.job function"
    )
    raise InvalidJob(f"{shown(job)} cannot be registered: use {hint}")


def _where(definition: JobDefinition) -> str:
    cls = definition.job_class
    return f"{cls.__module__}.{cls.__qualname__.removesuffix('.job_class')}"


NO_OPTIONS = EnqueueOptions(plain=True)


def take_apart(job: object) -> tuple[JobDefinition, Job, EnqueueOptions]:
    """Return definition, value and options of a job to enqueue; raise `InvalidJob` if it is not a job value."""
    if isinstance(job, Job):
        return definition_of(job), job, NO_OPTIONS
    if isinstance(job, JobWithOptions):
        return definition_of(job.job), job.job, job.options
    raise InvalidJob(_not_a_job(job))


def _not_a_job(value: object) -> str:
    if isinstance(value, FunctionJob):
        return f"{value!r} is not a job value: write {value.job_class.__name__}.new(…)"
    if isinstance(value, type) and issubclass(value, Job):
        return f"{value.__name__} is a class, not a job value: write {value.__name__}(…)"
    how = "create one with a jobrt.Job class, or with .new(…) of an @app.job function"
    return f"{shown(value)} is not a job value: {how}"
