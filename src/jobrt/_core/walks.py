"""Lists of jobs at a bounded cost: in which order the jobs that may match are looked at, and how far.

A *walk* is the order of an index that has all jobs that may match a filter. A list looks at a number of jobs on the
walk, and continues from the place where it has stopped. So its cost depends neither on the number of jobs nor on how
many of them match. ``design/lists.md`` has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from jobrt._core.states import FINAL, HELD, UNSTARTED, State
from jobrt._core.text import is_storable
from jobrt._core.where import And, Compare, Everything, In, Or, Where
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from jobrt._core.where import Column

By = Literal["id", "ends", "due", "held", "suspended", "children", "given"]

MOST_KINDS: Final = 1000
"""Combinations of state and name, or of queue and priority, up to which each is a list of its own."""

_READ: Final = 20_000
"""Index entries that all these lists read together, at most, so that a page is full."""

_SUSPENDED: Final = frozenset({State.SUSPENDED, State.CLOSING})
_PLACE: Final = re.compile(r"([0-9]{1,19})(?:\.(-?[0-9]{1,19}))?")
_LARGEST: Final = 2**63 - 1


@attrs.frozen
class Place:
    """A job on a walk: its id, and the microseconds since 1970 by which the walk is ordered; None if it is by id."""

    id: int
    at: int | None = None

    def __str__(self) -> str:
        """Return the text that `parse_place` reads."""
        return str(self.id) if self.at is None else f"{self.id}.{self.at}"

    @property
    def key(self) -> tuple[int, int]:
        """What places are ordered by."""
        return self.at or 0, self.id


@attrs.frozen(kw_only=True)
class Walk:
    """The order in which jobs are looked at that may match a filter.

    ==============  ===============================================  =====================
    ``by``          which jobs                                       in the order of
    ==============  ===============================================  =====================
    ``given``       those with given ``ids``                         their ids
    ``children``    those that given jobs have enqueued              their ids
    ``ends``        final ones in ``states``, of ``names``           when they ended
    ``due``         waiting ones in ``states``, in ``queues``        when they are due
    ``held``        those that workers hold                          their ids
    ``suspended``   suspended and closing ones                       their ids
    ``id``          all, or those ``created`` in a range of time     their ids
    ==============  ===============================================  =====================

    ``names`` and ``queues`` are None for all. ``due_now`` limits waiting jobs to those that are due, or are not; None
    is for both. If the walk ``covers`` the filter, all its jobs match.
    """

    by: By
    newest: bool
    ids: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    names: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None
    due_now: bool | None = None
    created: tuple[Compare, ...] = ()
    covers: bool = False

    @property
    def timed(self) -> bool:
        """Whether places on the walk have a time."""
        return self.by in {"ends", "due"}

    def by_id(self) -> Walk:
        """Return the walk along all ids in the same direction."""
        return Walk(by="id", newest=self.newest)


@attrs.frozen
class Look:
    """Ids of jobs that match, in the order of the walk; there may be more behind the place ``after`` if not None.

    ``looked_at`` is the number of jobs that were looked at.
    """

    ids: tuple[int, ...]
    after: Place | None
    looked_at: int


def walk_of(where: Where, *, newest: bool) -> Walk:
    """Return the walk for a filter: that of the fewest jobs, as far as the filter alone can tell."""
    parts = list(_parts(where))
    ids, parents = _common(parts, "id"), _common(parts, "parent")
    if ids is not None:
        return Walk(by="given", newest=newest, ids=tuple(sorted(ids, reverse=newest)))
    if parents is not None:
        return Walk(by="children", newest=newest, ids=tuple(sorted(parents)))
    found = _common(parts, "state")
    if found is not None:
        states = frozenset(map(State, found))
        if FINAL.issuperset(states):
            return _by_ends(parts, states, newest=newest)
        if UNSTARTED.issuperset(states):
            return _by_due(parts, states, newest=newest)
        if HELD.issuperset(states):
            return Walk(by="held", newest=newest, covers=states == HELD and _only(parts, "state"))
        if _SUSPENDED.issuperset(states):
            return Walk(by="suspended", newest=newest)
    created = tuple(part for part in parts if isinstance(part, Compare) and part.column == "created_at")
    return Walk(by="id", newest=newest, created=created, covers=len(created) == len(parts))


BATCH: Final = 20_000
"""Jobs that one statement of a query looks at, if no index knows the filter: some ten milliseconds."""


def batches(where: Where, order_by: str) -> Walk | None:
    """Return the walk of a query that may have to look at all jobs in the order of their ids, else None.

    If the walk is not along ids, the query is answered in batches only where many jobs are in its states.
    """
    walk = walk_of(where, newest=order_by.startswith("-"))
    if order_by.removeprefix("-") != "id" or walk.covers or walk.by not in {"id", "ends", "due"}:
        return None
    return walk


def _by_ends(parts: Sequence[Where], states: Collection[State], *, newest: bool) -> Walk:
    return Walk(
        by="ends",
        newest=newest,
        states=tuple(sorted(states)),
        names=_texts(parts, "name"),
        covers=_only(parts, "state", "name"),
    )


def _by_due(parts: Sequence[Where], states: Collection[State], *, newest: bool) -> Walk:
    mixed = State.RETRYABLE in states or len(states) > 1
    return Walk(
        by="due",
        newest=newest,
        states=tuple(sorted(states)),
        queues=_texts(parts, "queue"),
        due_now=None if mixed else State.AVAILABLE in states,
        covers=states == UNSTARTED and _only(parts, "state", "queue"),
    )


def _parts(where: Where) -> Iterator[Where]:
    """Yield the filters that must all match."""
    if isinstance(where, And):
        for part in where.parts:
            yield from _parts(part)
    elif not isinstance(where, Everything):
        yield where


def _values(part: Where, column: Column) -> frozenset[Any] | None:
    """Return the values that a filter allows for a column, or None if it is about more than that."""
    if isinstance(part, In) and part.column == column:
        return frozenset(part.values)
    if isinstance(part, Or) and part.parts:
        found = [_values(each, column) for each in part.parts]
        return None if None in found else frozenset().union(*(values for values in found if values))
    return None


def _common(parts: Sequence[Where], column: Column) -> frozenset[Any] | None:
    """Return the values that all filters allow for a column; None if they allow any."""
    found = [values for part in parts if (values := _values(part, column)) is not None]
    return frozenset.intersection(*found) if found else None


def _texts(parts: Sequence[Where], column: Column) -> tuple[str, ...] | None:
    """Return the texts that are allowed for a column; those that cannot be stored are in no row."""
    found = _common(parts, column)
    return None if found is None else tuple(sorted(text for text in found if is_storable(text)))


def _only(parts: Sequence[Where], *columns: Column) -> bool:
    """Return whether the filters are about these columns alone."""
    return all(any(_values(part, column) is not None for column in columns) for part in parts)


def depth(kinds: int, *, scan: int, limit: int) -> int:
    """Return how many jobs to read of each of so many lists, to look at about `scan` of them together.

    If all jobs match, `limit` is that of the page: each list may have all that is on it. Else it is 0.
    """
    kinds = max(kinds, 1)
    return max(-(-scan // kinds), min(scan, limit + 1, _READ // kinds), 1)


def given(walk: Walk, after: Place | None) -> list[Place]:
    """Return the places of a walk along given ids, behind a place."""
    places = list(map(Place, walk.ids))
    if after is None:
        return places
    return [place for place in places if (place.id < after.id if walk.newest else place.id > after.id)]


def merged(lists: Sequence[Sequence[Place]], *, depth: int, newest: bool) -> tuple[list[Place], bool]:
    """Return the beginnings of several lists as one in order, and whether there may be more behind it.

    A list with `depth` places may go on behind its last one. What comes later in others is left out.
    """
    ordered = sorted((place for each in lists for place in each), key=lambda place: place.key, reverse=newest)
    ends = [each[-1].key for each in lists if len(each) >= depth]
    if not ends:
        return ordered, False
    if newest:
        horizon = max(ends)
        return [place for place in ordered if place.key >= horizon], True
    horizon = min(ends)
    return [place for place in ordered if place.key <= horizon], True


def seen(places: Sequence[Place], matching: Collection[int] | None, *, more: bool, limit: int) -> Look:
    """Return the result of a look at some places.

    Args:
        places: what was looked at, in order.
        matching: ids of the jobs that match; None for all.
        more: whether there may be more behind the last place.
        limit: maximum number of jobs.

    """
    found = [number for number, place in enumerate(places) if matching is None or place.id in matching]
    ids = tuple(places[number].id for number in found[:limit])
    if len(found) > limit or (len(found) == limit and more):
        last = found[limit - 1] if limit else -1
        return Look(ids, places[last] if limit else None, last + 1)
    return Look(ids, places[-1] if more else None, len(places))


def parse_place(name: str, text: str) -> Place:
    """Return the place that a text names; raise `InvalidFilter`."""
    found = _PLACE.fullmatch(text)
    if found is None or not 0 < int(found[1]) <= _LARGEST or abs(int(found[2] or 0)) > _LARGEST:
        shown = text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - as `dashboard.selection` does
        raise InvalidFilter(f"{name} is {shown!r}: use a whole number above zero, or what a page before gave")
    return Place(int(found[1]), None if found[2] is None else int(found[2]))
