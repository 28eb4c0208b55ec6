"""What ended over the last hour, day and week, for the charts.

It is counted from the rows, a slice of time after the other, and kept in memory: first what ended since the last call,
then what is missing, newest first. So a call costs what its caller allows, however many jobs there are.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from jobrt._client import Client
from jobrt._client.observing import ended
from jobrt._core.stats import Ended, Numbers, total

Group: TypeAlias = tuple[str, str]
"""Queue and name."""

_SETTLED: Final = timedelta(seconds=5)
"""Age from which no more jobs end in the past. Rows get their time before their transaction commits."""
_SLICE: Final = 2_000
"""Jobs that one question counts: about ten milliseconds."""
_BURST: Final = 1_000_000
"""Jobs of one second that are counted: those that one call has cancelled have the same time. More are cut off."""
_WIDTH: Final = timedelta(hours=1)
"""Time that the first question covers."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST: Final = timedelta(seconds=1)


@attrs.frozen
class Period:
    """A length of time that a chart shows, as a number of slots of some seconds."""

    name: str
    step: int
    slots: int

    def starts(self, now: datetime) -> list[datetime]:
        """Return when the slots begin; the last one holds `now`."""
        last = _floor(now, self.step)
        return [last - timedelta(seconds=self.step * back) for back in reversed(range(self.slots))]


PERIODS: Final[Mapping[str, Period]] = MappingProxyType({
    period.name: period for period in (Period("hour", 60, 60), Period("day", 3600, 24), Period("week", 3600, 168))
})  # fmt: skip
_HOURS: Final = 168


def _floor(moment: datetime, step: int) -> datetime:
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % step, UTC)


class _Ask(Protocol):
    """Question for what ended in a range."""

    def __call__(self, since: datetime, until: datetime, *, limit: int) -> Awaitable[Ended]: ...


@attrs.define(eq=False)
class _Series:
    """Counts by slots of one length. What ended from ``first`` on and before ``last`` is counted."""

    step: int
    length: int
    counted: dict[datetime, dict[Group, Numbers]] = attrs.field(factory=dict[datetime, dict[Group, Numbers]])
    first: datetime = _NEVER
    last: datetime = _NEVER
    width: timedelta = attrs.field(factory=lambda: _WIDTH)
    """Time that the next question covers."""

    async def count(self, ask: _Ask, now: datetime, is_over: Callable[[], bool]) -> None:
        """Count what ended lately, and then what is missing, until `is_over`."""
        begin = _floor(now, self.step) - timedelta(seconds=self.step * (self.length - 1))
        until = now - _SETTLED
        if self.last < begin or self.last > now:  # nobody looked for that long, or the clock was set back
            self.counted.clear()
            self.first = self.last = until
        for start in [start for start in self.counted if start < begin]:
            del self.counted[start]
        self.first = max(self.first, begin)
        while self.last < until:
            end = min(until, self.last + self.width)
            if await self._add(ask, self.last, end):
                self.last = end
            if is_over():
                break  # and yet one question about the past, so that it is counted in the end
        while self.first > begin:
            start = max(begin, self.first - self.width)
            if await self._add(ask, start, self.first):
                self.first = start
            if is_over():
                return

    async def _add(self, ask: _Ask, since: datetime, until: datetime) -> bool:
        """Add what ended in a range; False if that is too much for one question."""
        shortest = until - since <= _SHORTEST
        found = await ask(since, until, limit=_BURST if shortest else _SLICE)
        if found.more and not shortest:
            self.width = max((until - since) / 4, _SHORTEST)
            return False
        self.width = min(self.width * 2, timedelta(seconds=self.step * self.length))
        for slot in found.slots:
            groups = self.counted.setdefault(slot.start, {})
            key = (slot.queue, slot.name)
            groups[key] = total([groups[key], slot.numbers]) if key in groups else slot.numbers
        return True


@attrs.frozen
class Counted:
    """What ended in the slots of a period, as far as it is counted; ``since`` is where that begins."""

    period: Period
    starts: list[datetime]
    slots: list[Mapping[Group, Numbers]]
    since: datetime

    @property
    def complete(self) -> bool:
        """Whether all slots are counted."""
        return self.since <= self.starts[0]

    def columns(self, wanted: Callable[[Group], bool]) -> list[Numbers]:
        """Return the sum of the wanted queues and jobs for each slot."""
        return [total([found for group, found in groups.items() if wanted(group)]) for groups in self.slots]


@attrs.define(eq=False)
class History:
    """Counts of a database, kept between the requests of a dashboard."""

    _jobs: Client
    _minutes: _Series = attrs.field(factory=partial(_Series, 60, 60), init=False)
    _hours: _Series = attrs.field(factory=partial(_Series, 3600, _HOURS), init=False)
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def count(self, period: Period, now: datetime, *, seconds: float) -> Counted:
        """Count for about so many seconds at most, and return what is counted. `now` is by the database's clock."""
        series = self._minutes if period.step == self._minutes.step else self._hours
        ask = partial(ended, self._jobs, step=period.step, deleted=series is self._hours)
        async with self._turn:
            end = trio.current_time() + seconds
            await series.count(ask, now, lambda: trio.current_time() >= end)
        starts = period.starts(now)
        return Counted(period, starts, [series.counted.get(start, {}) for start in starts], series.first)
