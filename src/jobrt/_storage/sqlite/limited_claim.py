"""Choice of jobs under limits for the whole cluster: of a queue, of keys, by rates, in turns (``design/limits.md``).

The transaction holds the write lock, so what runs can be counted, and nobody else claims meanwhile.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import attrs

from jobrt._core.keys import key_range
from jobrt._core.limits import Demand, Room
from jobrt._core.looks import AGAIN, FEW_KEYS, MANY_KEYS, WALK, Look
from jobrt._core.rates import Bucket, Rate, is_held, new_bucket
from jobrt._storage.sqlite.family import startable
from jobrt._storage.sqlite.keys import find_missing
from jobrt._storage.sqlite.rows import LARGEST, SMALLEST, dumps
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.transaction import SQL, Transaction

_Row: TypeAlias = "Sequence[Any]"
"""A candidate: id, name, key, due time, whether its attempt is parked in this worker."""

_ID, _NAME, _KEY, _DUE, _PARKED, _PRIORITY = range(6)
_WHOLE_QUEUE: Final = ""
"""Key of the bucket of a queue's own rate."""


@attrs.frozen
class Choice:
    """Ids of the jobs to claim, in order, and what to remember.

    ``starts`` are the times of their starts, if they wait for tokens.
    ``wait`` is the number of microseconds after which a rate or a hold lets more jobs start, or None.
    Only the first ``at_once`` (None: all) have slots; the others are claimed ahead.
    ``held_back`` and ``keys`` are those of `Exchange`.
    """

    ids: Sequence[int]
    look: Look
    starts: dict[int, int] | None = None
    wait: int | None = None
    held_back: bool = False
    at_once: int | None = None
    keys: Mapping[int, str] = attrs.field(factory=dict[int, str])


def choose(
    tx: Transaction, demand: Demand, look: Look, *, since: int | None, apart: Apart | None = None
) -> Choice:
    """Choose due jobs as the limits allow, in order of priority, due time and id, or in turns of keys.

    `since` is that of `Beats`. With `apart`, jobs are left out whose keys the database refuses to store.
    """
    claimant = {"queue": demand.queue, "worker": demand.worker, "since": since, "now": tx.now}
    found: Sequence[Any] = tx.row(SQL["attempts/limited_queue"], claimant) or [None] * 6
    known, paused, held_until, turn, key, buckets = found
    if paused or not known or demand.empty:
        return Choice((), look)
    if demand.key is not None and (look.path != demand.key or key in {None, demand.key}):
        if key is None:  # nobody has stored it yet, or the row was deleted since
            look = Look()
        look = find_missing(tx, demand.queue, path=demand.key, look=look, apart=apart)
    if held_until and not demand.parked:
        return Choice((), look, wait=held_until - tx.now)
    if demand.fair:
        look = attrs.evolve(look, turn=turn or "")
    chooser = _Chooser(tx, demand, look, buckets=bool(buckets))
    chooser.run(held_until)
    chosen = [*chooser.chosen, *chooser.chained]
    ids = [row[_ID] for row in chosen]
    if look.claim_in is not None:
        chooser.wait_for(int(look.claim_in * 1e6))
    held_back = not (ids or held_until) and chooser.wait is not None and chooser.has_due()
    starts = chooser.starts if demand.rated else None
    at_once = len(chooser.chosen) if chooser.slots is None else min(len(ids), chooser.slots)
    keys = {} if demand.per_key is None else {row[_ID]: row[_KEY] for row in chosen}
    return Choice(ids, chooser.look, starts, chooser.wait, held_back=held_back, at_once=at_once, keys=keys)


def chosen_rows(tx: Transaction, ids: Sequence[int]) -> list[list[Any]]:
    """Return the rows of chosen jobs, in order."""
    return tx.array(SQL["attempts/limited_rows"], {"ids": dumps(list(ids))})


@attrs.define
class _Chooser:
    """One choice: what is left to take, and what was taken."""

    tx: Transaction
    demand: Demand
    look: Look
    buckets: bool
    """Whether there may be tokens or holds of keys."""
    wait: int | None = None
    starts: dict[int, int] = attrs.Factory(dict[int, int])
    chosen: list[_Row] = attrs.Factory(list[Any])
    chained: list[_Row] = attrs.Factory(list[Any])
    """Jobs that wait for a slot of their key."""
    slots: int | None = None
    """Slots of the queue that are free."""
    ids: set[int] = attrs.Factory(set[int])
    room: Room = attrs.field(init=False)
    _shared: frozenset[str] = frozenset()
    """Keys of which other workers run jobs."""
    _filled: dict[str, Bucket] = attrs.Factory(dict[str, Bucket])
    _parked: list[_Row] = attrs.Factory(list[Any])
    """Jobs whose attempts are parked in this worker, and may go on: they need no token."""

    def run(self, held_until: int | None = None) -> None:
        """Choose, and take the tokens. While the queue is held, jobs go on, and none begins."""
        demand = self.demand
        self.room = Room(demand, self._running_keys())
        if demand.cluster_limit is not None:
            values = {"queue": demand.queue, "worker": demand.worker}
            running, others = self.tx.row(SQL["attempts/limited_running"], values) or (0, 0)
            self.slots = slots = max(demand.cluster_limit - running, 0)
            self.room.limit(slots + (0 if others else demand.ahead))
        if demand.rated:
            self.room.limit(demand.starting)
        if demand.rate is not None:
            self._load([_WHOLE_QUEUE], demand.rate)
            self.room.limit_starts(self._filled[_WHOLE_QUEUE].tokens(demand.rate, ahead=demand.tokens_ahead))
        if held_until:
            self.room.limit_starts(0)
            self.wait_for(held_until - self.tx.now)
        if demand.parked and self.room.left:
            self._find_parked()
        for priority in self._priorities():
            if demand.key is None:
                self._in_order(priority)
            elif demand.fair:
                self._in_turns(priority)
            else:
                self._by_keys(priority)
                self._chain(priority)
        if demand.rate is not None and not held_until:
            self._pay(_WHOLE_QUEUE, self.room.started, demand.rate)
        if demand.per_key_rate is not None:
            for key, number in self.room.taken.items():
                self._pay(key, number, demand.per_key_rate)

    def has_due(self) -> bool:
        """Return whether a job is due, whatever the limits are."""
        self.room = Room(attrs.evolve(self.demand, limit=1))
        place = {"after_at": SMALLEST, "after_id": 0, "limit": 1}
        return any(
            self.tx.array(SQL["attempts/limited_page"], self._values(priority) | place)
            for priority in self._priorities()
        )

    def _running_keys(self) -> dict[str, int]:
        if self.demand.per_key is None:
            return {}
        values = {"queue": self.demand.queue, "worker": self.demand.worker}
        running, shared = json.loads(self.tx.value(SQL["attempts/limited_running_keys"], values))
        self._shared = frozenset(shared)
        return dict(running)

    def _priorities(self) -> Iterator[int]:
        """Yield the priorities that have waiting jobs, the highest first, while there is room.

        If no job may begin, those of parked jobs.
        """
        priority: int | None = LARGEST
        while self.room.left and self.room.names:
            if self.room.starts:
                values = {"queue": self.demand.queue, "below": priority}
                priority = self.tx.value(SQL["attempts/exchange_priority"], values)
            else:
                below = [row[_PRIORITY] for row in self._parked if row[_PRIORITY] < priority]
                priority = max(below, default=None)
            if priority is None:
                return
            yield priority

    # ------------------------------------------------------------------ what goes on

    def _find_parked(self) -> None:
        values = self._values(0) | {"ids": dumps(self.demand.parked)}
        rows = self.tx.array(SQL["attempts/limited_parked"], values)
        if self.demand.key is None:
            rows = [[*row[:_KEY], "", *row[_DUE:]] for row in rows]
        else:
            low, high = key_range(self.demand.key)
            rows = [row for row in rows if low <= (row[_KEY] or "") < high]
        self._parked = sorted(rows, key=itemgetter(_DUE, _ID))

    def _parked_of(self, priority: int) -> list[_Row]:
        return [row for row in self._parked if row[_PRIORITY] == priority]

    def _with_parked(
        self, lanes: Sequence[tuple[str, list[_Row]]], priority: int
    ) -> Sequence[tuple[str, list[_Row]]]:
        """Add the parked jobs to the lanes of their keys, which take turns after the last one that was served."""
        if not (parked := self._parked_of(priority)):
            return lanes
        found = dict(lanes)
        for row in parked:
            found[row[_KEY]] = [*found.get(row[_KEY], []), row]
        keys = sorted(found, key=lambda key: (key <= self.look.served, key))
        return [(key, sorted(found[key], key=itemgetter(_DUE, _ID))) for key in keys]

    # ------------------------------------------------------------------ without keys

    def _in_order(self, priority: int) -> None:
        last = (SMALLEST, 0)
        parked = self._parked_of(priority)
        while (size := self.room.starts) and (names := self.room.names):
            values = self._values(priority) | {"after_at": last[0], "after_id": last[1]}
            page = self.tx.array(
                SQL["attempts/limited_page"], values | {"names": dumps(names), "limit": size}
            )
            last = (page[-1][_DUE], page[-1][_ID]) if len(page) == size else (LARGEST, 0)
            before = [row for row in parked if (row[_DUE], row[_ID]) < last]
            self._take(sorted([*page, *before], key=itemgetter(_DUE, _ID)) if before else page)
            if len(page) < size:
                return
        self._take(parked)

    # ------------------------------------------------------------------ by keys

    def _by_keys(self, priority: int) -> None:
        """Take in order of due times: of all keys if they are few, else of the first jobs, else of some keys."""
        parked = self._parked_of(priority)
        if not self.room.starts:
            self._take(parked)
            return
        if not self.look.many:
            jobs = min(self.room.starts, self.demand.per_key or self.room.starts)
            lanes = self._heads(priority, after="", keys=FEW_KEYS, jobs=jobs)
            if len(lanes) < FEW_KEYS:
                self._take_of([*lanes, ("", parked)], in_turns=False)
                return
            self.look = attrs.evolve(self.look, many=True)
        seen, limit = self._walk(priority)
        if seen < limit:
            self.look = attrs.evolve(self.look, many=seen > FEW_KEYS)
        elif self.room.starts:
            self._in_turns(priority)

    def _walk(self, priority: int) -> tuple[int, int]:
        """Take of the first due jobs; return how many were seen, and of how many."""
        limit = 2 * self.room.starts + WALK
        values = self._values(priority) | {"limit": limit, "full": dumps(self.room.full_keys)}
        low, high = key_range(self.demand.key or "")
        text = self.tx.value(SQL["attempts/limited_walk"], values | {"low": low, "high": high})
        seen, page = json.loads(text)
        self._allow({row[_KEY] for row in page})
        parked = self._parked_of(priority)
        self._take(sorted([*page, *parked], key=itemgetter(_DUE, _ID)) if parked else page)
        return seen, limit

    def _in_turns(self, priority: int) -> None:
        """Take one job of each key in turn, beginning after the last key that had its turn."""
        starts = self.room.starts
        jobs, lanes = 1, self._lanes(priority, jobs=1) if starts else []
        most = min(starts, self.demand.per_key or starts)
        while (
            jobs < most
            and sum(len(rows) for _, rows in lanes) < starts
            and any(len(rows) == jobs for _, rows in lanes)
        ):
            jobs = min(8 * jobs, most)
            lanes = self._lanes(priority, jobs=jobs)
        number = len(self.chosen)
        self._take_of(self._with_parked(lanes, priority), in_turns=True)
        taken = [row for row in self.chosen[number:] if len(row) <= _PRIORITY]  # by the turns of all workers
        if taken:
            self._turn(taken[-1][_KEY])
        elif lanes and self.room.left:
            self._turn(lanes[-1][0])
        if self._parked and len(self.chosen) > number:
            self.look = attrs.evolve(self.look, served=self.chosen[-1][_KEY])
        if len(lanes) >= MANY_KEYS and self.room.left:
            self.wait_for(int(AGAIN * 1e6))

    def _lanes(self, priority: int, *, jobs: int) -> list[tuple[str, list[_Row]]]:
        """Return the keys in the order of their turns, with their first due jobs; `MANY_KEYS` of them at most."""
        low, _ = key_range(self.demand.key or "")
        turn = max(self.look.turn, low)
        lanes = self._heads(priority, after=turn, keys=MANY_KEYS, jobs=jobs)
        if len(lanes) < MANY_KEYS and turn > low:
            rest = self._heads(priority, after=low, keys=MANY_KEYS - len(lanes), jobs=jobs)
            lanes += [lane for lane in rest if lane[0] <= turn]
        return lanes

    def _turn(self, key: str) -> None:
        if key == self.look.turn:
            return
        self.look = attrs.evolve(self.look, turn=key)
        if self.demand.fair:
            self.tx.run(SQL["attempts/limited_turn"], {"queue": self.demand.queue, "turn": key})

    def _heads(self, priority: int, *, after: str, keys: int, jobs: int) -> list[tuple[str, list[_Row]]]:
        """Return the keys after one that have waiting jobs, and the first due jobs of those with room."""
        low, high = key_range(self.demand.key or "")
        values = self._values(priority) | {
            "after": max(after, low),
            "high": high,
            "keys": keys,
            "jobs": jobs,
            "full": dumps(self.room.full_keys),
        }
        lanes: list[tuple[str, list[_Row]]] = [
            (key, found) for key, found in self.tx.array(SQL["attempts/limited_heads"], values)
        ]
        self._allow({key for key, _ in lanes})
        return lanes

    def _take_of(self, lanes: Sequence[tuple[str, list[_Row]]], *, in_turns: bool) -> None:
        if in_turns:
            ranked = [
                (number, place, row)
                for place, (_, rows) in enumerate(lanes)
                for number, row in enumerate(rows)
            ]
            self._take([row for _, _, row in sorted(ranked, key=itemgetter(0, 1))])
        else:
            self._take(sorted((row for _, rows in lanes for row in rows), key=itemgetter(_DUE, _ID)))

    def _chain(self, priority: int) -> None:
        """Take jobs of keys that are full by jobs of this worker alone: they wait for a slot of their key there."""
        number = min(self.room.left, self.demand.ahead - len(self.chained))
        if number < 1:
            return
        own = [key for key in self.room.busy_keys if key not in self._shared][:FEW_KEYS]
        self._allow(set(own))
        if not (keys := [key for key in own if key in self.room.busy_keys]):
            return
        jobs = -(-number // len(keys)) + (self.demand.per_key or 0)  # the first of them have just been taken
        values = self._values(priority) | {"names": dumps(self.demand.names)}
        lanes = self.tx.array(SQL["attempts/limited_chain"], values | {"keys": dumps(keys), "jobs": jobs})
        rows = [row for lane in lanes for row in lane if row[_ID] not in self.ids]
        barred = self._barred(rows)
        rows = sorted((row for row in rows if row[_ID] not in barred), key=itemgetter(_DUE, _ID))[:number]
        self.ids.update(row[_ID] for row in rows)
        self.chained += rows
        self.room.limit(self.room.left - len(rows))

    # ------------------------------------------------------------------ taking

    def _values(self, priority: int) -> dict[str, Any]:
        return {
            "queue": self.demand.queue,
            "priority": priority,
            "now": self.tx.now,
            "names": dumps(self.room.names),
            "fits": self.demand.fits,
            "worker": self.demand.worker,
            "parked": dumps([row[_ID] for row in self._parked]),
        }

    def _take(self, rows: Sequence[_Row]) -> None:
        barred = self._barred(rows)
        for row in rows:
            begins = not (self.demand.rated and row[_PARKED])
            if (
                row[_ID] in barred
                or row[_ID] in self.ids
                or not self.room.take(row[_NAME], row[_KEY], begins=begins)
            ):
                continue
            self.ids.add(row[_ID])
            self.chosen.append(row)
            if self.demand.rated:
                self.starts[row[_ID]] = self.tx.now + (self._delay(row[_KEY]) if begins else 0)
            if not begins and len(row) <= _PRIORITY:  # it took the place of one that begins
                self.wait_for(0)

    def _barred(self, rows: Sequence[_Row]) -> frozenset[int]:
        """Return the jobs that may not start: members of families that are being ended, and jobs that have expired.

        So may those that were set aside.
        """
        special = self.tx.array(SQL["attempts/limited_special"], {"ids": dumps([row[_ID] for row in rows])})
        ids = [job_id for job_id, _ in special]
        if not ids:
            return self.demand.without
        started = frozenset(job_id for job_id, started in special if started)
        return self.demand.without.union(ids) - startable(self.tx, ids, started=started)

    # ------------------------------------------------------------------ tokens

    def _delay(self, key: str) -> int:
        """Return the microseconds until the tokens are there for the job that was just taken."""
        rate, key_rate = self.demand.rate, self.demand.per_key_rate
        delay = 0 if rate is None else self._filled[_WHOLE_QUEUE].start(rate, self.room.started)
        if key_rate is None:
            return delay
        return max(delay, self._filled[key].start(key_rate, self.room.taken[key]))

    def _allow(self, keys: set[str]) -> None:
        """Let the room know of the tokens of these keys."""
        rate = self.demand.per_key_rate
        if rate is None and not self.buckets:
            return
        new = [key for key in keys if key not in self._filled]
        if not new:
            return
        self._load(new, rate)
        for key in new:
            bucket = self._filled[key]
            if rate is not None:
                tokens = bucket.tokens(rate, ahead=self.demand.tokens_ahead)
                self.room.allow(key, tokens)
                if not tokens:
                    self.wait_for(bucket.wait(rate, ahead=self.demand.tokens_spare))
            elif is_held(bucket.held_until, self.tx.now):
                self.room.allow(key, 0)
                self.wait_for(bucket.held_until - self.tx.now)

    def _load(self, keys: Sequence[str], rate: Rate | None) -> None:
        values = {"queue": self.demand.queue, "keys": dumps(keys)}
        stored = {row[0]: Bucket(*row[1:]) for row in self.tx.array(SQL["attempts/limited_buckets"], values)}
        for key in keys:
            bucket = stored.get(key)
            if rate is None:
                self._filled[key] = bucket or Bucket(self.tx.now, 0, 1)
            else:
                self._filled[key] = (
                    bucket.filled(rate, self.tx.now) if bucket else new_bucket(rate, self.tx.now)
                )

    def _pay(self, key: str, tokens: int, rate: Rate) -> None:
        """Take the tokens of so many jobs that begin."""
        bucket = self._filled[key].take(tokens)
        if tokens:
            values = {"queue": self.demand.queue, "key": key, "full_at": bucket.full_at(rate)}
            self.tx.run(SQL["attempts/limited_bucket_put"], values | attrs.asdict(bucket))
        if not bucket.tokens(
            rate, ahead=self.demand.tokens_ahead
        ):  # else something other holds the jobs back
            self.wait_for(bucket.wait(rate, ahead=self.demand.tokens_spare))

    def wait_for(self, micros: int) -> None:
        """Claim again after so many microseconds at the latest."""
        self.wait = micros if self.wait is None else min(self.wait, micros)
