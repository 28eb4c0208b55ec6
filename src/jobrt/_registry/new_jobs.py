"""New jobs: what the storage inserts for a job value or a cron tick, and what it changes for an update."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from jobrt._core.job import NewJob
from jobrt._core.unique import unique_key
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
from jobrt._registry.registry import NO_OPTIONS, Registry, take_apart
from jobrt.errors import InvalidJob, UnknownJob

if TYPE_CHECKING:
    from jobrt._core.unique import Unique, UniqueKey


class UpdateKeywords(ChangeKeywords, total=False):
    """Keywords of `Client.update`: the options of `enqueue` but ``unique``, and the payload.

    ``args``: a job value of the same class, or a dict of all its fields.
    """

    args: Job | Mapping[str, Any]


def new_job(registry: Registry, job: Enqueueable[Any], **given: Unpack[EnqueueKeywords]) -> NewJob:
    """Return what the storage inserts for a job value; `given` options win over those of `job.with_options`.

    Raises:
        InvalidJob: a field or an option is wrong; the message names it.
        UnknownJob: the registry has jobs, but not this class. An empty registry takes any: it is that of a program
            that only enqueues.

    """
    definition, value, options = take_apart(job)
    if definition.name not in registry and len(registry):
        raise UnknownJob(
            f"{definition.name!r} is not a job of this app: add it to App(jobs=…), or no worker would run it"
        )
    if given:
        options = options.replaced_by(enqueue_options(definition.name, given))
    return _new(definition, definition.encode(value), options)


def tick_job(
    registry: Registry, name: str, *, args: Mapping[str, Any], options: Mapping[str, Any]
) -> NewJob | None:
    """Return what the storage inserts for a cron tick, or None if the registry does not know the job's name.

    Raises:
        InvalidJob: the stored payload or an option no longer fits the job's class.

    """
    try:
        definition = registry.get(name)
    except UnknownJob:
        return None
    text = definition.encode(definition.decode(args))
    return _new(definition, text, enqueue_options(name, {**options}))  # type: ignore[typeddict-item]  # checked there


def stored_options(job: Job | JobWithOptions[Any]) -> dict[str, Any]:
    """Return the options that a cron entry keeps for its jobs, as values that JSON can carry.

    Raises:
        InvalidJob: an option makes no sense for a job that is enqueued again and again.

    """
    if not isinstance(job, JobWithOptions):
        return {}
    options = job.options
    if options.schedule_at is not None or options.delay is not None or options.unique is not UNSET:
        msg = f"{type(job.job).__name__}: a cron entry's job takes no schedule_at, schedule_in or unique"
        raise InvalidJob(msg)
    stored: dict[str, Any] = {"timeout": options.timeout, "context": options.context}
    for name in ("queue", "priority", "max_attempts", "tags", "metadata"):
        value = getattr(options, name)
        if value is not UNSET:
            stored[name] = list(value) if isinstance(value, tuple) else value
    return {name: value for name, value in stored.items() if value is not None or name == "max_attempts"}


def _new(definition: JobDefinition, args: str, options: EnqueueOptions) -> NewJob:
    if options is NO_OPTIONS and definition.unique is None:  # the usual case, in a third of the time
        return NewJob(definition.name, args, definition.queue, definition.priority, definition.max_attempts)
    queue = definition.queue if options.queue is UNSET else options.queue
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
        unique=_unique(definition, args, queue=queue, options=options),
    )


def _unique(definition: JobDefinition, args: str, *, queue: str, options: EnqueueOptions) -> UniqueKey | None:
    rule: Unique | None = definition.unique if options.unique is UNSET else options.unique
    if rule is None:
        return None
    metadata = {} if options.metadata is UNSET else options.metadata
    return unique_key(rule, name=definition.name, queue=queue, args=json.loads(args), metadata=metadata)


def changed_job(registry: Registry, name: str | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of `Client.update` as `JobStore.update` takes them.

    Args:
        registry: the known jobs; a new payload of one of them is checked.
        name: the job's name; None for jobs of any name, whose payload cannot be changed.
        changes: the keywords of `Client.update`.

    Raises:
        InvalidJob: a value does not fit, or nothing is to be changed.

    """
    if not changes:
        raise InvalidJob("update: name at least one change")
    given = {key: value for key, value in changes.items() if key != "args"}
    if "unique" in given:
        raise InvalidJob("update: a job's uniqueness cannot be changed")
    options = enqueue_options(name or "update", given)  # type: ignore[arg-type]  # checked there
    changed = {key: getattr(options, _FIELD_OF.get(key, key)) for key in given}
    if "schedule_in" in changed:
        changed["delay"] = changed.pop("schedule_in")
    if "args" in changes:
        changed["args"] = _changed_args(registry, name, changes["args"])
    return changed


_FIELD_OF = {"schedule_in": "delay", "metadata": "metadata_text"}


def _changed_args(registry: Registry, name: str | None, args: Any) -> str:
    if name is None:
        raise InvalidJob("update: args can only be changed for one job, by its id")
    try:
        definition = registry.get(name)
    except UnknownJob:
        return json.dumps(args, sort_keys=True, separators=(",", ":"), allow_nan=False)
    value = definition.decode(args) if isinstance(args, dict) else args
    if not isinstance(value, definition.job_class):
        msg = f"update: args is {args!r}: give a {definition.job_class.__name__} or a dict of its fields"
        raise InvalidJob(msg)
    return definition.encode(value)
