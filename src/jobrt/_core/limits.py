"""Decisions about what a worker may claim now: how many jobs of which names, and which of the due jobs."""

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import attrs

from jobrt._core.arguments import checked_count
from jobrt._core.queues import Queue
from jobrt._core.rates import AHEAD, SPARE, Rate
from jobrt._core.where import canonical
from jobrt._json import read_json
from jobrt.errors import InvalidJob

PAYLOAD_LIMIT: Final = 1 << 20
"""Bytes that payload, metadata and context of a job may have together, unless the application sets another limit."""

CLAIM_BYTES: Final = 16 << 20
"""Bytes of large texts that the jobs of one claim may have together. The first job comes whatever its size."""

LARGE_TEXTS: Final = 8192
"""Bytes of a row's texts from which on they count, and are read by themselves (SQLite) or cut in listings."""

HELD_CHARACTERS: Final = 48 << 20
"""Characters of large texts with which a queue of a worker stops claiming, until jobs end, park or go back.

The claim that passes it may bring as much as a claim may have. While a job runs, its payload is in memory twice: as
text and as the job value.
"""

SHOWN_CHARACTERS: Final = 1000
"""Characters of a large payload that a listing has."""


@attrs.frozen
class Demand:
    """Request of one claim.

    It asks for at most ``limit`` jobs from ``queue``, ordered by priority (higher first), due time and id. There may be
    any number of jobs of the ``names``. For each name in ``capped``, its number is the maximum. ``names`` excludes the
    capped names. ``aliases`` has other names of capped ones: they share the number.
    The first ``free_slots`` of the jobs (``None``: all) begin immediately; the others are claimed ahead.

    ``fits`` says, as JSON, which payloads the worker can read: for a name the highest version, and the shape of its
    class. Jobs of a higher version, and those that were found unfit for that shape, are left alone.
    """

    worker: str
    queue: str
    limit: int
    names: tuple[str, ...]
    capped: tuple[tuple[str, int], ...] = ()
    cluster_limit: int | None = None
    key: str | None = None
    per_key: int | None = None
    rate: Rate | None = None
    per_key_rate: Rate | None = None
    fair: bool = False
    free_slots: int | None = None
    fits: str = "{}"
    aliases: Mapping[str, str] = attrs.field(factory=dict[str, str])
    ahead: int = 0
    """How many of the jobs may be claimed for slots that are taken, if this worker alone has them."""
    without: frozenset[int] = frozenset()
    """Jobs that are not to be claimed now: the database refuses to change them."""
    parked: tuple[int, ...] = ()
    """Jobs whose attempts are parked in the worker, if starts take tokens: they go on without one."""

    def members(self, name: str) -> tuple[str, ...]:
        """Return a capped name and its aliases."""
        return (name, *(alias for alias, shared in self.aliases.items() if shared == name))

    @property
    def empty(self) -> bool:
        """Whether the claim asks for no job."""
        return self.limit < 1 or not (self.names or self.capped)

    @property
    def starting(self) -> int:
        """Return how many of the jobs begin at once."""
        return self.limit if self.free_slots is None else min(self.free_slots, self.limit)

    @property
    def rated(self) -> bool:
        """Whether starts take tokens. Then the jobs of a claim are no more than the free slots."""
        return self.rate is not None or self.per_key_rate is not None

    @property
    def only_rated(self) -> bool:
        """Whether nothing but a rate of the queue limits it over all workers."""
        limits = (self.cluster_limit, self.per_key, self.per_key_rate)
        return self.rate is not None and limits == (None, None, None)

    @property
    def tokens_ahead(self) -> int:
        """Return for how many microseconds tokens may be taken in advance.

        Not with two rates: a start that waits for a token of one would come too soon after another for the other.
        """
        return AHEAD if (self.rate is None) != (self.per_key_rate is None) else 0

    @property
    def tokens_spare(self) -> int:
        """Return for how many microseconds tokens are still taken when the next claim is to come."""
        return SPARE if self.tokens_ahead else 0

    @property
    def clustered(self) -> bool:
        """Whether the queue has a limit for all workers, so that claims must run one after the other."""
        return self.cluster_limit is not None or self.key is not None or self.rate is not None


def demand(
    worker: str,
    queue: str,
    *,
    settings: Queue,
    room: int,
    names: tuple[str, ...],
    free: Mapping[str, int],
    fits: str = "{}",
    aliases: Mapping[str, str] | None = None,
    ahead: int = 0,
    parked: tuple[int, ...] = (),
) -> Demand:
    """Return the demand of a worker that has room for `room` jobs.

    Args:
        worker: id of the worker that claims.
        queue: name of the queue.
        settings: settings of the queue, with its limits for the whole cluster.
        room: number of jobs that can be accepted now, prefetch included.
        names: job names without a MAX_CONCURRENCY.
        free: for each name with a MAX_CONCURRENCY, how many more may be claimed (below one: none).
        fits: which payloads the worker can read; see `Demand`.
        aliases: for each alias of a name with a MAX_CONCURRENCY, that name.
        ahead: number of jobs that may be claimed for slots that are taken; see `Demand`.
        parked: jobs whose attempts are parked in the worker; see `Demand`.

    """
    capped = tuple((name, min(count, room)) for name, count in free.items() if count > 0)
    return Demand(
        worker,
        queue,
        max(room, 0),
        names,
        capped if room > 0 else (),
        cluster_limit=settings.cluster_limit,
        key=settings.key,
        per_key=settings.per_key,
        rate=settings.rate,
        per_key_rate=settings.per_key_rate,
        fair=settings.fair,
        fits=fits,
        aliases=aliases or {},
        ahead=ahead,
        parked=parked,
    )


class Room:
    """Number of jobs that one claim may still take: in total, of each capped name, and of each key.

    `running` has the numbers of the queue's running jobs by key. Only limits for the whole cluster need it.
    """

    def __init__(self, demand: Demand, running: Mapping[str, int] | None = None) -> None:
        self.left = demand.limit
        self.started = 0
        """Jobs that were taken and begin. The others go on."""
        self.taken: Counter[str] = Counter()
        """Those of each key."""
        self._starts = math.inf
        self._names = demand.names
        self._caps = dict(demand.capped)
        self._aliases = demand.aliases
        self._keyed = demand.key is not None
        self._per_key = math.inf if demand.per_key is None else demand.per_key
        self._running = Counter(running)
        self._tokens: dict[str, int] = {}

    def limit(self, most: int) -> None:
        """Take no more than `most` jobs in all."""
        self.left = max(min(self.left, most), 0)

    def limit_starts(self, most: int) -> None:
        """Let no more than `most` jobs begin."""
        self._starts = min(self._starts, most)

    def allow(self, key: str, tokens: int) -> None:
        """Let no more than `tokens` jobs of a key begin, those included that were taken before."""
        self._tokens[key] = tokens

    @property
    def starts(self) -> int:
        """How many more jobs may begin."""
        return int(max(min(self.left, self._starts - self.started), 0))

    @property
    def chooses(self) -> bool:
        """Whether a due job may have to be skipped although there is room left."""
        return bool(self._caps) or self._keyed

    @property
    def names(self) -> tuple[str, ...]:
        """The names of which jobs may still be taken."""
        capped = tuple(name for name, cap in self._caps.items() if cap > 0)
        return (
            self._names
            + capped
            + tuple(alias for alias, name in self._aliases.items() if self._caps.get(name, 0) > 0)
        )

    @property
    def full_keys(self) -> list[str]:
        """The keys of which no more jobs may be taken, as far as is known."""
        full = [key for key, number in self._running.items() if number >= self._per_key]
        return [*full, *(key for key, tokens in self._tokens.items() if self.taken[key] >= tokens)]

    @property
    def busy_keys(self) -> list[str]:
        """The keys of which as many jobs run as may, and that nothing else holds back."""
        busy = (key for key, number in self._running.items() if number >= self._per_key)
        return [key for key in busy if self.taken[key] < self._tokens.get(key, math.inf)]

    def take(self, name: str, key: str = "", *, begins: bool = True) -> bool:
        """Take a due job if there is room for it; return whether it was taken.

        One that does not begin, but goes on, needs no token.
        """
        name = self._aliases.get(name, name)
        if self.left < 1 or self._caps.get(name, 1) < 1 or (begins and self.started >= self._starts):
            return False
        if self._keyed:
            if self._running[key] >= self._per_key:
                return False
            if begins and self.taken[key] >= self._tokens.get(key, math.inf):
                return False
            self._running[key] += 1
            if begins:
                self.taken[key] += 1
        self.started += begins
        if name in self._caps:
            self._caps[name] -= 1
        self.left -= 1
        return True


def checked_payload_limit(limit: object) -> int:
    """Return the setting ``payload_limit``, in bytes; raise `InvalidSetting` if it is not a whole number above zero."""
    return checked_count("payload_limit", limit, least=1)


def check_payload(name: str, *texts: str, limit: int) -> None:
    """Raise `InvalidJob` if the texts of a new job have more bytes of UTF-8 than `limit`."""
    if 4 * sum(map(len, texts)) <= limit:  # a character has four bytes at most
        return
    size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    if size > limit:
        raise InvalidJob(
            f"{name}: the payload has {size:,} bytes of JSON, metadata and context included, but at most {limit:,}"
            " are allowed: store it elsewhere and enqueue its location, or set App(payload_limit=…)"
        )


def limit_key(path: str | None, name: str, *, args: str, metadata: str) -> str:
    """Return the key by which a job is counted: a text that is the same for equal values.

    A missing field counts as null, and so does every field of invalid JSON.
    """
    root, _, field = (path or "name").partition(".")
    if root == "name":
        return name
    found: Any = None
    with suppress(ValueError):
        found = read_json(args if root == "args" else metadata)
    for step in field.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return canonical(found)
