"""Say how a queue is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from jobrt.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Queue", "QueueStatus", "as_queue"]


def _positive(_self: object, field: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and (isinstance(value, bool) or value <= 0):
        msg = f"Queue.{field.name} is {value!r}: give a number above zero"
        raise InvalidSetting(msg)


def _path(_self: object, _field: object, value: str | None) -> None:
    if value is None:
        return
    root, dot, name = value.partition(".")
    if not (value == "name" or (dot and name and root in {"args", "metadata"})):
        msg = f"Queue.key is {value!r}: use 'name', 'args.FIELD' or 'metadata.FIELD'"
        raise InvalidSetting(msg)


@attrs.frozen
class Queue:
    """How one queue is served.

    Args:
        concurrency: attempts at once in one worker process.
        cluster_limit: attempts at once over all workers; ``None`` for no such limit.
        key: what `per_key` counts by: ``"name"``, ``"args.FIELD"`` or ``"metadata.FIELD"``.
        per_key: attempts at once over all workers with the same key.
        poll_interval: seconds between looks at the database when no wake-up comes.
        keep: retention for this queue's jobs, by state; ``None`` leaves it to the app's.

    """

    concurrency: int = attrs.field(default=10, validator=[attrs.validators.instance_of(int), _positive])
    cluster_limit: int | None = attrs.field(default=None, kw_only=True, validator=_positive)
    key: str | None = attrs.field(default=None, kw_only=True, validator=_path)
    per_key: int | None = attrs.field(default=None, kw_only=True, validator=_positive)
    poll_interval: float = attrs.field(default=1.0, kw_only=True, validator=_positive)
    keep: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if (self.key is None) != (self.per_key is None):
            msg = "Queue.key and Queue.per_key go together: give both or neither"
            raise InvalidSetting(msg)

    @property
    def clustered(self) -> bool:
        """Return whether a limit holds over all workers, which makes claims take turns."""
        return self.cluster_limit is not None or self.per_key is not None


def as_queue(name: str, value: int | Queue) -> Queue:
    """Return the settings that ``queues={name: value}`` means.

    Raises:
        InvalidSetting: the value is neither a positive int nor a `Queue`; names the queue.

    """
    if isinstance(value, Queue):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"queue {name!r}: give its concurrency as an int, or a jobrt.Queue, not {value!r}"
        raise InvalidSetting(msg)
    try:
        return Queue(value)
    except InvalidSetting as error:
        msg = f"queue {name!r}: {error}"
        raise InvalidSetting(msg) from None


@attrs.frozen(kw_only=True)
class QueueStatus:
    """What the database knows about a queue.

    ``paused`` and ``concurrency`` (``None``: as configured) are the operator's settings; the counts are
    of jobs now; ``oldest_due`` is seconds the longest-due waiting job has been waiting, ``None`` if none.
    If only so many were to be counted, ``names`` are those of the due jobs that were, and with ``more``
    there are more waiting ones.
    """

    name: str
    paused: bool = False
    concurrency: int | None = None
    available: int = 0
    scheduled: int = 0
    retryable: int = 0
    executing: int = 0
    oldest_due: float | None = None
    workers: int = 0
    names: tuple[str, ...] = ()
    more: bool = False
