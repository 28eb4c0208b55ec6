"""Which due jobs a claim of a queue without limits takes: the search of `jobrt._storage.sqlite.claim`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from jobrt._core.limits import Demand, Room
from jobrt._core.sweeps import LOOK, SOON, Sweep
from jobrt._storage.sqlite.family import startable
from jobrt._storage.sqlite.rows import LARGEST, SMALLEST, dumps
from jobrt._storage.sqlite.transaction import SQL, Transaction

_Row: TypeAlias = "Sequence[Any]"
_Place: TypeAlias = tuple[int, int]
"""Due time and id of the last job that was looked at."""

# The values of shared/claim_row.sql that are used by position. `_FLAGS` is `extra` in the table. Only special jobs have
# more than `PLAIN` values: flags, large texts, options.
_ID, _NAME, _PRIORITY, _DUE, _ARGS, _FLAGS, _STARTED = 0, 1, 2, 6, 7, 12, 13
PLAIN: Final = 8
_MAY_NOT_START: Final = 8 | 64

_ENDED: Final = 1000
"""Jobs under a scope that is being ended, after which a claim stops: it ends those that it meets."""

_OVERLAP: Final = 1000
"""Microseconds before now from which on new jobs are looked at again."""

_BEGINNING: Final = (SMALLEST, 0)


@attrs.frozen
class Passed:
    """What claims of one queue and set of names remember where they cannot look at all due jobs.

    Jobs that became due after ``since`` are new. ``fronts`` are the places up to which these were looked at, by
    priority.
    """

    sweep: Sweep
    since: int
    fronts: Mapping[int, _Place] = attrs.field(factory=dict[int, _Place])

    def again(self) -> "Passed":
        """Return the memory after jobs have gone back, wherever their places are."""
        return attrs.evolve(self, sweep=self.sweep.again())

    def waits(self, now: int) -> float:
        """Return the seconds until the next claim is to look at older jobs."""
        return max(self.sweep.next_at - now / 1e6, 0.0)


@attrs.define
class Scan:
    """Search of one claim: the rows of the jobs to take, and whether their size or other reasons have ended it."""

    tx: Transaction
    demand: Demand
    page: int
    """Largest number of jobs to look at in one go."""
    rows: list[_Row] = attrs.Factory(list[Any])
    cut: bool = False
    _room: Room = attrs.field(init=False)
    _names: tuple[str, ...] = ()
    _ended: int = 0
    _exhausted: bool = False
    """Whether so many jobs were passed by that the look is over."""
    _late: bool = False
    """The same of a look at new jobs."""

    def __attrs_post_init__(self) -> None:
        self._room = Room(self.demand)
        self._names = self._room.names

    def run(self, passed: Passed | None) -> Passed | None:
        """Search, and return what to remember."""
        if passed is None:
            place = self._old(None)
            if not self._exhausted or self.cut:
                return None
            sweep = Sweep().after(self.tx.now / 1e6, place=place, in_vain=not self.rows)
            return None if sweep is None else Passed(sweep, since=self.tx.now - _OVERLAP)
        if passed.sweep.old_first:
            swept = self._sweep(passed.sweep)
            fronts = self._new(passed)
        else:
            fronts = self._new(passed)
            swept = self._sweep(passed.sweep)
        if swept is not None and self._late:
            swept = attrs.evolve(swept, next_at=min(swept.next_at, self.tx.now / 1e6 + SOON))
        if self.cut:  # not all of the rows may be taken
            return passed
        unique = {row[_ID]: row for row in self.rows}  # the sweep may have come to the new ones
        self.rows = sorted(unique.values(), key=_order)
        return None if swept is None else Passed(swept.turned(), passed.since, fronts)

    @property
    def _done(self) -> bool:
        return self.cut or not self._room.left

    @property
    def _all_names(self) -> bool:
        """Whether no jobs were passed by because their name has reached its number: these are claimed later."""
        return self._room.names == self._names

    def _sweep(self, sweep: Sweep) -> Sweep | None:
        """Look at older jobs if it is time, and return the memory of them."""
        now = self.tx.now / 1e6
        if now < sweep.next_at or self._done or not self._all_names:
            return sweep
        self._exhausted = False
        before = len(self.rows)
        place = self._old(sweep.place)
        if not self._all_names:
            return sweep
        return sweep.after(now, place=place, in_vain=self._exhausted and len(self.rows) == before)

    def _new(self, passed: Passed) -> dict[int, _Place]:
        """Look at new jobs, and return the places up to which that was done."""
        fronts = dict(passed.fronts)
        for priority in _priorities(self.tx, self.demand.queue, below=LARGEST):
            if self._done:
                break
            self._exhausted = False
            place = self._lane(priority, fronts.get(priority, (passed.since, 0)))
            self._late = self._late or self._exhausted
            if self._all_names:
                fronts[priority] = place or (self.tx.now - _OVERLAP, 0)
        return fronts

    def _old(self, place: tuple[int, _Place] | None) -> tuple[int, _Place] | None:
        """Look at due jobs in order after a place. Return where it ended, or None if no more are due."""
        below = LARGEST
        if place is not None:
            below, after = place
            if (stopped := self._lane(below, after)) is not None:
                return below, stopped
        for priority in _priorities(self.tx, self.demand.queue, below=below):
            if (stopped := self._lane(priority, _BEGINNING)) is not None:
                return priority, stopped
        return None

    def _lane(self, priority: int, after: _Place) -> _Place | None:
        """Take due jobs of a priority after a place. Return where it ended, or None if no more are due.

        One page is enough unless a limit skips jobs. Names that are at their limit are excluded from the following
        pages, so that a thousand of their jobs do not hide the jobs after them.
        """
        while not self._done and (names := self._room.names):
            size = min(self._room.left, self.page)
            parameters = {
                "queue": self.demand.queue,
                "priority": priority,
                "now": self.tx.now,
                "after_at": after[0],
                "after_id": after[1],
                "look": LOOK,
            }
            choice = {
                "names": dumps(names),
                "worker": self.demand.worker,
                "fits": self.demand.fits,
                "limit": size,
            }
            page: list[_Row] = self.tx.array(SQL["attempts/exchange_page"], parameters | choice)
            self._admit(page)
            if len(page) < size:
                place = self.tx.row(SQL["attempts/exchange_looked"], parameters)
                self._exhausted = place is not None
                return place if place is None else (place[0], place[1])
            after = (page[-1][_DUE], page[-1][_ID])
        return after

    def _admit(self, page: Sequence[_Row]) -> None:
        """Take the jobs of a page that may start and for which there is room.

        After a page with large jobs no other is read.
        """
        allowed = _allowed(self.tx, page)
        self._ended += len(page) - len(allowed)
        if self.demand.without:
            allowed = [row for row in allowed if row[_ID] not in self.demand.without]
        admitted = _admitted(allowed, room=self._room)
        self.rows += admitted
        large = self._room.left and any(row[_ARGS] is None for row in special_rows(admitted))
        if large or self._ended >= _ENDED:
            self.cut = True


def _order(row: _Row) -> tuple[int, int, int]:
    return -row[_PRIORITY], row[_DUE], row[_ID]


def special_rows(rows: Sequence[_Row]) -> list[_Row]:
    """Return the rows of jobs that are not plain."""
    return [row for row in rows if len(row) > PLAIN]


def _allowed(tx: Transaction, page: Sequence[_Row]) -> Sequence[_Row]:
    """Return the jobs of a page that may start: of members of families, and jobs that may have expired, not all may."""
    asked = [row for row in special_rows(page) if row[_FLAGS] & _MAY_NOT_START]
    if not asked:
        return page
    started = frozenset(row[_ID] for row in asked if row[_STARTED] is not None)
    barred = {row[_ID] for row in asked}.difference(
        startable(tx, [row[_ID] for row in asked], started=started)
    )
    return [row for row in page if row[_ID] not in barred]


def _admitted(page: Sequence[_Row], *, room: Room) -> Sequence[_Row]:
    """Return the jobs of a page for which there is room, and count them."""
    if not room.chooses:
        room.left -= len(page)
        return page
    return [row for row in page if room.take(row[_NAME])]


def _priorities(tx: Transaction, queue: str, *, below: int) -> Iterator[int]:
    """Yield the priorities below a number that have waiting jobs, the highest first."""
    priority: int | None = below
    while (
        priority := tx.value(SQL["attempts/exchange_priority"], {"queue": queue, "below": priority})
    ) is not None:
        yield priority
