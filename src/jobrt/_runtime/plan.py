"""Settings of a worker, checked before it starts."""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import attrs

from jobrt._client.hooks import EnqueueHook
from jobrt._core.arguments import checked_names, nearest
from jobrt._core.cron import CronEntry
from jobrt._core.keep import PruneRule
from jobrt._core.queues import Queue
from jobrt._registry import JobDefinition
from jobrt._runtime.hooks import AttemptHook
from jobrt.errors import InvalidSetting


@attrs.frozen(kw_only=True)
class WorkerPlan:
    """Jobs, queues and limits of one worker."""

    definitions: Mapping[str, JobDefinition]
    queues: Mapping[str, Queue]
    rules: Sequence[PruneRule] = ()
    crons: Sequence[CronEntry] = ()
    grace: float = 30.0
    lease: float = 30.0
    name: str | None = None
    version: str = ""
    switched_off: frozenset[str] = frozenset()
    """Parts that the environment has disabled: ``worker`` (it claims nothing), ``cron``."""
    around_attempt: Sequence[AttemptHook] = ()
    around_enqueue: Sequence[EnqueueHook] = ()


def check_queues(definitions: Mapping[str, JobDefinition], queues: Mapping[str, Queue]) -> None:
    """Raise `InvalidSetting` if the queue of a job is not configured; the message names its jobs."""
    missing: dict[str, list[str]] = {}
    for definition in definitions.values():
        if definition.queue not in queues:
            missing.setdefault(definition.queue, []).append(definition.name)
    if missing:
        needs = "; ".join(
            f"queue {queue!r} is needed by {', '.join(names)}" for queue, names in missing.items()
        )
        raise InvalidSetting(f"{needs}: add it to App(queues=...)")


def choose_queues(queues: Mapping[str, Queue], wanted: Iterable[str] | None) -> Mapping[str, Queue]:
    """Return the queues of an app that a worker is to serve; all if `wanted` is None.

    Raises:
        InvalidSetting: the app has no such queue; the message names those that it has.

    """
    if wanted is None:
        return queues
    names = checked_names("run_worker: queues", wanted)
    unknown = [name for name in names if name not in queues]
    if unknown:
        close = nearest(unknown[0], queues)
        hint = f"did you mean {close!r}?" if close else f"this app has {', '.join(map(repr, queues))}"
        raise InvalidSetting(f"no queue {', '.join(map(repr, unknown))}: {hint}")
    return {name: queues[name] for name in names}


def switched_off() -> frozenset[str]:
    """Return what ``JOBRT_DISABLED`` disables in this process: ``worker``, ``cron``, or both, with a comma."""
    disabled = {part.strip() for part in os.environ.get("JOBRT_DISABLED", "").split(",")} - {""}
    unknown = disabled - {"worker", "cron"}
    if unknown:
        raise InvalidSetting(f"JOBRT_DISABLED has {', '.join(sorted(unknown))}: use worker, cron or both")
    return frozenset(disabled)


def installed_version() -> str:
    """Return the version of jobrt."""
    try:
        return version("jobrt")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0"
