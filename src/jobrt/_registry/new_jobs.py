"""Rows of jobs: what the storage inserts for a job value or a cron tick, and changes for an update."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Unpack

from jobrt._core.arguments import refused
from jobrt._core.job import NewJob, plain_job
from jobrt._core.limits import check_payload
from jobrt._core.unique import Unique, UniqueKey, unique_key
from jobrt._payload.payload import encode_json
from jobrt._registry.definition import Job, JobDefinition
from jobrt._registry.enqueueable import Enqueueable
from jobrt._registry.options import (
    UNSET,
    ChangeKeywords,
    EnqueueKeywords,
    EnqueueOptions,
    JobWithOptions,
    enqueue_options,
)
from jobrt._registry.registry import Registry, take_apart
from jobrt.errors import InvalidJob, UndecodablePayload, UnknownJob


class UpdateKeywords(ChangeKeywords, total=False):
    """Keywords of `Client.update`: options of `enqueue`, and the payload as a job value or a dict of all fields."""

    args: Job | Mapping[str, Any]


def new_job(registry: Registry, job: Enqueueable[Any], **given: Unpack[EnqueueKeywords]) -> NewJob:
    """Return the row for a job value; `given` options replace those of `job.with_options`.

    Raises:
        InvalidJob: a field or an option is invalid; the message names it.
        UnknownJob: the registry has jobs, but not this class. An empty registry, of a program that only enqueues,
            accepts any class.

    """
    definition, value, options = take_apart(job)
    _check_known(registry, definition)
    if given:
        options = options.replaced_by(enqueue_options(definition.name, given))
    args, limit = definition.encode(value), registry.payload_limit
    if options.plain:
        return _plain(definition, args, options, limit=limit)
    return _new(definition, args, options, limit=limit)


def _check_known(registry: Registry, definition: JobDefinition) -> None:
    if definition.name not in registry.by_name and len(registry):
        raise UnknownJob(
            f"{definition.name!r} is not a job of this app: add it to App(jobs=…), so that a worker can run it"
        )


def new_jobs(
    registry: Registry, jobs: Iterable[Enqueueable[Any]], *, priority: int = 0, place: datetime | None = None
) -> list[NewJob]:
    """Return the rows for several job values; see `new_job`.

    Children of a nursery have the priority and the place of their parent, unless told otherwise.
    """
    rows: list[NewJob] = []
    known: JobDefinition | None = None
    limit = registry.payload_limit
    for job in listed(jobs):  # mostly of one class
        definition, value, options = take_apart(job)
        if definition is not known:
            _check_known(registry, definition)
            known = definition
        args = definition.encode(value)
        if options.plain:
            rows.append(_plain(definition, args, options, limit=limit, priority=priority, place=place))
            continue
        row = _new(definition, args, options, limit=limit)
        if priority and options.priority is UNSET and definition.priority == 0:
            row = row._replace(priority=priority)
        if place is not None and row.schedule_at is None and row.delay is None:
            row = row._replace(schedule_at=place)
        rows.append(row)
    return rows


def listed(jobs: Iterable[Enqueueable[Any]]) -> Iterable[Enqueueable[Any]]:
    """Return several jobs; raise `InvalidJob` if they are no list."""
    if not isinstance(jobs, Iterable) or isinstance(jobs, str | bytes):
        raise refused("enqueue_many: jobs", jobs, use="a list of job values", error=InvalidJob)
    return jobs


def job_list(jobs: Iterable[Enqueueable[Any]]) -> list[Enqueueable[Any]]:
    """Return several jobs in a list; raise `InvalidJob` if they are no list, or one of them is no job."""
    wanted = list(listed(jobs))
    for job in {type(job): job for job in wanted}.values():
        take_apart(job)
    return wanted


def with_options(job: Enqueueable[Any], **given: Unpack[EnqueueKeywords]) -> JobWithOptions[Any]:
    """Return a job with its options, even if it has none; `given` options replace its own.

    Raises:
        InvalidJob: it is not a job, or an option is invalid.

    """
    definition, value, options = take_apart(job)
    if given:
        options = options.replaced_by(enqueue_options(definition.name, given))
    return JobWithOptions(value, options)


def tick_job(
    registry: Registry,
    name: str,
    *,
    args: Mapping[str, Any],
    options: Mapping[str, Any],
    version: int | None = None,
) -> JobWithOptions[Any] | None:
    """Return the job of a cron tick, or None if the registry does not have it, or a class too old for the payload.

    ``version`` is that of the class that stored the entry.

    Raises:
        InvalidJob: the stored payload or an option is no longer valid for the job class.

    """
    try:
        definition = registry.get(name)
    except UnknownJob:
        return None
    checked = enqueue_options(name, {**options})  # type: ignore[typeddict-item]  # checked there
    try:
        return JobWithOptions(definition.read(args, version), checked)
    except UndecodablePayload as error:
        if error.problem == "fields":
            return None
        raise


def stored_options(job: Job | JobWithOptions[Any]) -> dict[str, Any]:
    """Return the options that a cron entry stores for its jobs, as JSON values.

    Raises:
        InvalidJob: an option is not possible for a job that is enqueued repeatedly.

    """
    if not isinstance(job, JobWithOptions):
        return {}
    options = job.options
    timed = (options.schedule_at, options.delay, options.deadline, options.expires)
    if any(time is not None for time in timed) or options.unique is not UNSET:
        label = type(job.job).__name__
        raise InvalidJob(
            f"{label}: the job of a cron entry takes no schedule_at, schedule_in, unique, deadline or expiry"
        )
    stored: dict[str, Any] = {"timeout": options.timeout, "context": options.context}
    for name in ("queue", "priority", "max_attempts", "tags", "metadata"):
        value = getattr(options, name)
        if value is not UNSET:
            stored[name] = list(value) if isinstance(value, tuple) else value
    return {name: value for name, value in stored.items() if value is not None or name == "max_attempts"}


def _new(definition: JobDefinition, args: str, options: EnqueueOptions, *, limit: int) -> NewJob:
    check_payload(definition.name, args, options.metadata_text, options.context or "", limit=limit)
    queue = definition.queue if options.queue is UNSET else options.queue
    metadata = {} if options.metadata is UNSET else options.metadata
    rule = definition.unique if options.unique is UNSET else options.unique
    return NewJob(
        name=definition.name,
        args=args,
        queue=queue,
        priority=definition.priority if options.priority is UNSET else options.priority,
        max_attempts=definition.max_attempts if options.max_attempts is UNSET else options.max_attempts,
        schedule_at=options.schedule_at,
        delay=options.delay,
        timeout=options.timeout,
        tags=() if options.tags is UNSET else options.tags,
        metadata=options.metadata_text,
        context=options.context,
        unique=None if rule is None else _unique(rule, definition, args, queue=queue, metadata=metadata),
        deadline=options.deadline,
        expires=options.expires,
        version=definition.versions.stored,
    )


def _plain(
    definition: JobDefinition,
    args: str,
    options: EnqueueOptions,
    *,
    limit: int,
    priority: int = 0,
    place: datetime | None = None,
) -> NewJob:
    """Return the row of a job with plain options; a child has the priority and place of its parent."""
    if 4 * len(args) > limit:  # as `check_payload` begins: once for each job
        check_payload(definition.name, args, limit=limit)
    rule = definition.unique if options.unique is UNSET else options.unique
    return plain_job(
        definition.name,
        args,
        queue=definition.queue,
        priority=definition.priority or priority,
        max_attempts=definition.max_attempts,
        schedule_at=place,
        unique=None if rule is None else _unique(rule, definition, args, queue=definition.queue, metadata={}),
        version=definition.versions.stored,
    )


def _unique(
    rule: Unique, definition: JobDefinition, args: str, *, queue: str, metadata: Mapping[str, Any]
) -> UniqueKey:
    return unique_key(rule, name=definition.first_name, queue=queue, args=args, metadata=metadata)


def changed_job(registry: Registry, name: str | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `Client.update` as values for `JobStore.update`.

    ``name`` is the name of the job, or None for several jobs, whose payload cannot be changed. If the registry has
    the job, a new payload is checked.

    Raises:
        InvalidJob: a value is invalid, or there are no changes.

    """
    if not changes:
        raise InvalidJob("update: use at least one keyword")
    given = {key: value for key, value in changes.items() if key != "args"}
    if "unique" in given:
        raise InvalidJob("update: the uniqueness of a job cannot be changed")
    for key in _LIMITS & given.keys():
        raise InvalidJob(f"update: {key} cannot be changed: cancel the job, and enqueue another")
    options = enqueue_options(name or "update", given)  # type: ignore[arg-type]  # checked there
    for key in ("schedule_at", "schedule_in"):  # no job is without a due time
        if key in given and given[key] is None:
            raise InvalidJob(f"update: {key} is None: use a time, or schedule_in=0 for now")
    changed = {key: getattr(options, _FIELD_OF.get(key, key)) for key in given}
    if "schedule_in" in changed:
        changed["delay"] = changed.pop("schedule_in")
    if "args" in changes:
        changed |= _changed_args(registry, name, changes["args"])
    texts = [changed.get(key) or "" for key in ("args", "metadata", "context")]
    check_payload(name or "update", *texts, limit=registry.payload_limit)
    return changed


_LIMITS = frozenset({"deadline_in", "deadline_at", "expires_in", "expires_at"})
_FIELD_OF = {"schedule_in": "delay", "metadata": "metadata_text"}


def _changed_args(registry: Registry, name: str | None, args: Any) -> dict[str, Any]:
    """Return the payload as JSON text, with its version if the job is known."""
    if name is None:
        raise InvalidJob("update: args can only be changed for a single job, by its id")
    try:
        definition = registry.get(name)
    except UnknownJob:
        return {"args": encode_json(args, label="update: args")}
    value = definition.decode(args) if isinstance(args, dict) else args
    if not isinstance(value, definition.job_class):
        name = definition.job_class.__name__
        raise refused("update: args", args, use=f"a {name} or a dict of its fields", error=InvalidJob)
    return {"args": definition.encode(value), "version": definition.versions.stored}
