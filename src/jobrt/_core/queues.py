"""Settings of a queue, and its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jobrt._core.arguments import checked_count, checked_duration, checked_flag, checked_name, refused
from jobrt._core.rates import Rate
from jobrt.errors import InvalidSetting


def _count(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    checked_count(f"Queue.{field.name}", value, least=1)


def _limit(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        checked_count(f"Queue.{field.name}", value, least=1)


def _interval(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    checked_duration(f"Queue.{field.name}", value)


def _rate(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Rate):
        raise refused(
            f"Queue.{field.name}", value, use="a jobrt.Rate, such as Rate(10)", error=InvalidSetting
        )


def _flag(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    checked_flag(f"Queue.{field.name}", value)


def _retention(_self: object, _field: object, value: Mapping[str, Any] | None) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise refused("Queue.keep", value, use="a mapping from a state to a jobrt.Keep", error=InvalidSetting)


def _path(_self: object, _field: object, value: str | None) -> None:
    if value is None:
        return
    root, dot, name = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not (root == value == "name" or (dot and name and root in {"args", "metadata"})):
        raise refused(
            "Queue.key", value, use="'name', 'args.FIELD' or 'metadata.FIELD'", error=InvalidSetting
        )


@attrs.frozen
class Queue:
    """Settings of a queue.

    Args:
        concurrency: maximum number of concurrent attempts in a worker process.
        cluster_limit: maximum number of concurrent attempts in all workers; ``None`` for no limit.
        key: field that `per_key`, `per_key_rate` and `fair` go by: ``"name"``, ``"args.FIELD"`` or
            ``"metadata.FIELD"``. All jobs without the field share one key.
        per_key: maximum number of concurrent attempts with the same key, in all workers.
        rate: how often attempts may start, in all workers. Their jobs are not claimed ahead.
        per_key_rate: how often attempts with the same key may start, in all workers.
        fair: whether keys take turns within a priority, instead of all jobs by their due time.
        poll_interval: seconds between polls of the database when no notification arrives.
        keep: retention of this queue's jobs, by state; ``None`` for the retention of the app.

    """

    concurrency: int = attrs.field(default=10, validator=_count)
    cluster_limit: int | None = attrs.field(default=None, kw_only=True, validator=_limit)
    key: str | None = attrs.field(default=None, kw_only=True, validator=_path)
    per_key: int | None = attrs.field(default=None, kw_only=True, validator=_limit)
    rate: Rate | None = attrs.field(default=None, kw_only=True, validator=_rate)
    per_key_rate: Rate | None = attrs.field(default=None, kw_only=True, validator=_rate)
    fair: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    poll_interval: float = attrs.field(default=1.0, kw_only=True, validator=_interval)
    keep: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True, validator=_retention)

    def __attrs_post_init__(self) -> None:
        by_key = [
            name for name in ("per_key", "per_key_rate", "fair") if getattr(self, name) not in {None, False}
        ]
        if self.key is None and by_key:
            raise InvalidSetting(f"Queue.{by_key[0]} needs Queue.key: add key='args.FIELD' or another field")
        if self.key is not None and not by_key:
            raise InvalidSetting("Queue.key limits nothing: add per_key, per_key_rate or fair=True")

    @property
    def clustered(self) -> bool:
        """Whether the queue has a limit for all workers. Workers then claim one after the other."""
        return self.cluster_limit is not None or self.key is not None or self.rate is not None

    @property
    def has_chains(self) -> bool:
        """Whether a worker claims jobs ahead for the slots of a limit that it has alone (``design/limits.md``)."""
        by_queue = self.cluster_limit is not None and self.key is None
        by_key = self.per_key is not None and self.cluster_limit is None and not self.fair
        return (by_queue or by_key) and not self.rated

    @property
    def rated(self) -> bool:
        """Whether starts take tokens. Then no job is claimed ahead."""
        return self.rate is not None or self.per_key_rate is not None


def as_queue(name: str, value: int | Queue) -> Queue:
    """Return the settings for an item of ``queues={name: value}``; raise `InvalidSetting`, with the name."""
    checked_name("queues: the name of a queue", name)
    if isinstance(value, Queue):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused(
            f"queue {name!r}", value, use="an int, its concurrency, or a jobrt.Queue", error=InvalidSetting
        )
    try:
        return Queue(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"queue {name!r}: {error}") from None


@attrs.frozen(kw_only=True)
class QueueStatus:
    """Status of a queue in the database.

    ``paused`` and ``concurrency`` (``None``: as configured) were set at run time. ``available``, ``scheduled``,
    ``retryable``, ``claimed`` and ``executing`` are numbers of jobs. ``oldest_due`` is the time in seconds since the
    oldest due job became due, or ``None``. If counting was limited, ``names`` has the names of the due jobs that were
    counted, and ``more`` is true if there are others.
    """

    name: str
    paused: bool = False
    concurrency: int | None = None
    available: int = 0
    scheduled: int = 0
    retryable: int = 0
    claimed: int = 0
    executing: int = 0
    oldest_due: float | None = None
    workers: int = 0
    names: tuple[str, ...] = ()
    more: bool = False
