"""Limits that hold back the due jobs of a queue, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from jobrt._core.health import QueueLoad
from jobrt._core.limits import HELD_CHARACTERS
from jobrt._core.queues import QueueStatus
from jobrt._core.rates import FREE, Bucket, Rate, is_held
from jobrt._core.worker_info import QueueInfo
from jobrt._storage.contract import WorkerRow
from jobrt._views.words import age, count_in_words

_KEYS_SHOWN: Final = 3
_RECENT: Final = 2_000_000
"""Microseconds since the last claim of a rated queue for which a token that is there will be taken soon."""
_MISSING: Final = "null"
"""Key of jobs without the field of the key; see `jobrt._core.limits.limit_key`."""


@attrs.frozen(kw_only=True)
class QueueLimits:
    """Limits of a queue, as its live workers report them.

    ``slots`` and ``names`` (MAX_CONCURRENCY by job name) are sums over the workers that serve the queue.
    ``large_texts``: each of them has no free slot, or holds as many large payloads as it may.
    """

    slots: int = 0
    cluster_limit: int | None = None
    key: str | None = None
    per_key: int | None = None
    rate: Rate | None = None
    per_key_rate: Rate | None = None
    names: Mapping[str, int] = attrs.Factory(dict)
    large_texts: bool = False


def limits_of(queue: str, serving: Sequence[WorkerRow]) -> QueueLimits:
    """Return the limits of a queue; `serving` are the live workers with this queue."""
    infos = [row.info.queues[queue] for row in serving]
    limited = {name for row in serving for name in row.info.limits}
    names = {
        name: sum(row.info.limits[name] for row in serving)
        for name in limited
        if all(name in row.info.limits for row in serving)
    }
    slots = sum(info.concurrency for info in infos)
    first = infos[0] if infos else QueueInfo()
    return QueueLimits(
        slots=slots,
        cluster_limit=first.cluster_limit,
        key=first.key,
        per_key=first.per_key,
        rate=first.rate,
        per_key_rate=first.per_key_rate,
        names=names,
        large_texts=bool(infos)
        and all(info.large_texts >= HELD_CHARACTERS or info.running >= info.concurrency for info in infos),
    )


def blocking_limits(status: QueueStatus, limits: QueueLimits, load: QueueLoad) -> list[str]:
    """Return the limits because of which no due job can start now; empty if one could.

    Only a sample of the due jobs is known. A limit that holds all of them is reported, although jobs behind them may
    be free.
    """
    total = sum(load.running.values())
    if limits.cluster_limit is not None and total >= limits.cluster_limit:
        return [f"cluster_limit={limits.cluster_limit} is reached: {total} run in all workers"]
    if max(status.executing, total) >= limits.slots:
        return [f"all {count_in_words(limits.slots, 'slot')} are busy (concurrency)"]
    if limits.large_texts:
        most = f"{HELD_CHARACTERS // 1_000_000} million characters of large payloads"
        return [
            f"the workers hold as many payloads as they may ({most} each): more start when jobs have ended"
        ]
    bucket = load.buckets.get(None, FREE)
    if is_held(bucket.held_until, 0):
        return [f"a job asked for a pause (Throttle): nothing starts for {age(bucket.held_until / 1e6)}"]
    if limits.rate is not None and (wait := _wait(bucket, limits.rate)) is not None:
        return [f"{_rate_in_words('rate', limits.rate)} is used up: the next job starts within {age(wait)}"]
    return _limits_of_jobs(limits, load)


def _limits_of_jobs(limits: QueueLimits, load: QueueLoad) -> list[str]:
    """Return the limits by key and by name if they hold every known due job. A rate that holds a key is named first."""
    keys, names = load.running_keys(), load.running_names()
    full_keys = {key for key, count in keys.items() if limits.per_key is not None and count >= limits.per_key}
    waits = {key: wait for _, key in load.due if (wait := _wait_of_key(limits, load, key)) is not None}
    full_keys -= waits.keys()
    full_names = {name for name, limit in limits.names.items() if names[name] >= limit}
    if not load.due or any(
        name not in full_names and key not in full_keys and key not in waits for name, key in load.due
    ):
        return []
    held_keys = sorted({key for _, key in load.due} & full_keys)
    held_names = sorted({name for name, key in load.due if key not in full_keys and key not in waits})
    return [
        *_keys_in_words(limits, held_keys),
        *_waits_in_words(limits, waits),
        *_names_in_words(limits, held_names),
    ]


def _wait_of_key(limits: QueueLimits, load: QueueLoad, key: str) -> float | None:
    """Return the seconds for which a rate or a pause lets no job of a key start; None if one may start."""
    bucket = load.buckets.get(key, FREE)
    if limits.key is None:
        return None
    if is_held(bucket.held_until, 0):
        return bucket.held_until / 1e6
    return None if limits.per_key_rate is None else _wait(bucket, limits.per_key_rate)


def _wait(bucket: Bucket, rate: Rate) -> float | None:
    """Return the seconds until there is a token, or None if there is one that no worker wants."""
    filled = bucket.filled(rate, 0)
    if filled.tokens(rate) and (bucket is FREE or bucket.at < -_RECENT):
        return None
    return filled.wait(rate) / 1e6


def _rate_in_words(setting: str, rate: Rate) -> str:
    return f"{setting}=Rate({rate.count}, per={rate.per:g}, burst={rate.burst})"


def _waits_in_words(limits: QueueLimits, waits: Mapping[str, float]) -> Iterator[str]:
    if not waits:
        return
    keys = sorted(waits)
    shown = ", ".join(keys[:_KEYS_SHOWN])
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    rate = limits.per_key_rate
    what = "a pause (Throttle)" if rate is None else f"{_rate_in_words('per_key_rate', rate)}, or a pause,"
    soon = age(min(waits.values()))
    yield f"{what} holds the due jobs with the key {limits.key} = {shown}{more}: the next starts within {soon}"


def _keys_in_words(limits: QueueLimits, keys: Sequence[str]) -> Iterator[str]:
    if not keys:
        return
    shown = ", ".join(keys[:_KEYS_SHOWN])
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    note = " (all jobs without this field share the key null)" if _MISSING in keys else ""
    yield f"per_key={limits.per_key} holds the due jobs with the key {limits.key} = {shown}{more}{note}"


def _names_in_words(limits: QueueLimits, names: Sequence[str]) -> Iterator[str]:
    for name in names[:_KEYS_SHOWN]:
        yield f"MAX_CONCURRENCY holds the due jobs named {name!r}: {limits.names[name]} run"
