"""Find the moments at which something ticks: at an interval, or by a cron expression and the clock on the wall.

An expression has five fields (minute, hour, day of month, month, day of week), or six with seconds first, or is an
alias such as ``@daily``. cronsim reads it and finds matching *wall times*; which *moments* these are, when
clocks are changed, is decided here, by Debian cron's rule, for five fields and six:

===============================  ===============================  ======================================
the entry                        its time is skipped              its time comes twice
===============================  ===============================  ======================================
*fixed*: neither hour, minute    runs once, at the moment when    runs the first time
nor second begins with ``*``     clocks go forward
*repeating*: one of them does    does not run                     runs both times
===============================  ===============================  ======================================

So a nightly job runs every night, once; and a job of every ten minutes runs every ten minutes.

cronsim knows time zones too, but (2.8) it has this rule for five fields only, loses ticks where clocks change by
half an hour (Lord Howe), and when started inside a repeated hour can answer with a moment before its start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import attrs
from cronsim import CronSim, CronSimError

from jobrt.errors import InvalidSetting

__all__ = ["ALIASES", "Interval", "Schedule", "WallClock", "wall_clock"]

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# Name and legal values, in the order of six fields.
_FIELDS: Final = (
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L (the last) or LW (the last weekday)"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 (0 and 7 are Sunday), SUN-SAT, 5L (the last Friday) or 5#2 (the second)"),
)

# Long enough for anything sensible; and Python refuses to read numbers of thousands of digits in its own way.
_LONGEST_EXPRESSION: Final = 200

_SECOND: Final = timedelta(seconds=1)

# The rarest dates, such as a 29 February that is a Monday, come within 40 years, across a century without leap
# year. An expression that has no match in 50 years from a leap year is taken to have none; cronsim does the same.
_HORIZON: Final = timedelta(days=50 * 365.25)
_LEAP_YEAR: Final = datetime(2024, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """What ticks. All moments are aware, in UTC."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick later than `moment`, or None if there is none within fifty years."""
        ...

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None if there is none within fifty years."""
        ...


@attrs.frozen
class Interval:
    """Tick at `anchor` and each `step` after it: counted from there, so that nothing ever drifts."""

    step: timedelta
    anchor: datetime

    def after(self, moment: datetime) -> datetime:
        """Return the first tick later than `moment`."""
        return self.anchor if moment < self.anchor else self._last(moment) + self.step

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None before the anchor."""
        return None if moment < self.anchor else self._last(moment)

    def _last(self, moment: datetime) -> datetime:
        return self.anchor + (moment - self.anchor) // self.step * self.step


@attrs.frozen
class WallClock:
    """Tick when an expression matches the wall clock of a zone; made by `wall_clock`."""

    expression: str
    zone: tzinfo
    fixed: bool

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick later than `moment`, or None if there is none within fifty years."""
        local = moment.astimezone(self.zone)
        starts = [_wall(local)]
        repeated = _repeated(local)
        if repeated is not None and local.fold == 0:
            # The clock will go back to where it has been: from there on it is read a second time.
            starts.append(repeated[0] - _SECOND)
        return min(
            (one for start in starts for one in self._first(start, later_than=moment)),
            default=None,
        )

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None if there is none within fifty years."""
        local = moment.astimezone(self.zone)
        starts = [_wall(local) + _SECOND]
        repeated = _repeated(local)
        if repeated is not None and local.fold == 1:
            # The clock was set back: before that it had shown more than it shows now.
            starts.append(repeated[1])
        return max(
            (one for start in starts for one in self._last(start, not_later_than=moment)),
            default=None,
        )

    def _first(self, start: datetime, *, later_than: datetime) -> Iterable[datetime]:
        """Yield the first match past `later_than` whose wall time is past `start`, if there is one."""
        for wall in CronSim(self.expression, start):
            for moment in self._moments(wall):
                if moment > later_than:
                    yield moment
                    return
            if wall > start + _HORIZON:
                return

    def _last(self, start: datetime, *, not_later_than: datetime) -> Iterable[datetime]:
        """Yield the last match up to `not_later_than` whose wall time is before `start`, if there is one."""
        for wall in CronSim(self.expression, start, reverse=True):
            for moment in reversed(self._moments(wall)):
                if moment <= not_later_than:
                    yield moment
                    return
            if wall < start - _HORIZON:
                return

    def _moments(self, wall: datetime) -> tuple[datetime, ...]:
        """Return when, by this module's rule, the wall time `wall` is: not at all, once, or twice."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first < second:
            return (first,) if self.fixed else (first, second)
        if first > second:
            return (_change(self.zone, second, until=first),) if self.fixed else ()
        return (first,)


@lru_cache(maxsize=1024)
def wall_clock(expression: str, timezone: str) -> WallClock:
    """Read an expression and find its time zone.

    Raises:
        InvalidSetting: names the field and what it may hold, the unknown time zone, or the fields that never come
            together (30 February).

    """
    fields = _fields(expression)
    zone = _zone(timezone)
    seconds_first = ["0", *fields][-6:]
    clock = WallClock(" ".join(fields), zone, fixed=not any(one.startswith("*") for one in seconds_first[:3]))
    try:
        comes = clock.after(_LEAP_YEAR) is not None
    except CronSimError:  # cronsim sees some of the impossible ones, 30 February, by itself
        comes = False
    if not comes:
        day, month, weekday = fields[-3:]
        msg = (
            f"{expression!r} never comes in {timezone}: "
            f"no day has day of month {day!r}, month {month!r}, day of week {weekday!r} and such a time"
        )
        raise InvalidSetting(msg)
    return clock


def _fields(expression: str) -> list[str]:
    """Return the five or six fields, each of them legal by itself."""
    if len(expression) > _LONGEST_EXPRESSION:
        msg = f"{expression[:20]!r}… has {len(expression)} characters, more than {_LONGEST_EXPRESSION}"
        raise InvalidSetting(msg)
    if expression.strip().startswith("@") and expression.strip().lower() not in ALIASES:
        msg = f"{expression!r} is not one of {', '.join(ALIASES)}; for an interval use App.every"
        raise InvalidSetting(msg)
    fields = ALIASES.get(expression.strip().lower(), expression).split()
    if len(fields) not in {5, 6}:
        msg = (
            f"{expression!r} has {len(fields)} fields; use five (minute, hour, day of month, month, "
            "day of week), or six with the second first"
        )
        raise InvalidSetting(msg)
    for position, field in enumerate(fields, 6 - len(fields)):
        _check_field(expression, position, field=field)
    return fields


def _check_field(expression: str, position: int, *, field: str) -> None:
    """Refuse a field that is illegal by itself."""
    alone = ["*"] * 6
    alone[position] = field
    try:
        CronSim(" ".join(alone), _wall(_LEAP_YEAR))
    except CronSimError:
        name, legal = _FIELDS[position]
        msg = f"{name} {field!r} in {expression!r}: use {legal}, alone or with * , - /"
        raise InvalidSetting(msg) from None


def _zone(name: str) -> tzinfo:
    """Return the time zone of that name; UTC also where the machine has no time zone database."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; a path out of the database; a folder in it
        msg = f"timezone {name!r} is not known; use a name such as 'Europe/Berlin' or 'UTC'"
        raise InvalidSetting(msg) from None


def _wall(local: datetime) -> datetime:
    """Return what a clock on the wall shows, in whole seconds."""
    return local.replace(tzinfo=None, microsecond=0, fold=0)


def _repeated(local: datetime) -> tuple[datetime, datetime] | None:
    """Return the wall times from which and before which clocks show everything twice, if `local` is among them."""
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return None
    change = _change(local.tzinfo or UTC, first, until=second)
    end = change + (local.replace(fold=0).utcoffset() or timedelta(0))
    return _wall(change.astimezone(local.tzinfo)), _wall(end)


def _change(zone: tzinfo, moment: datetime, *, until: datetime) -> datetime:
    """Return the first moment after `moment` with another offset; there is one not later than `until`."""
    offset = moment.astimezone(zone).utcoffset()
    seconds = range(1, int((until - moment).total_seconds()) + 1)

    def changed(after: int) -> bool:
        return (moment + after * _SECOND).astimezone(zone).utcoffset() != offset

    return moment + seconds[bisect_left(seconds, True, key=changed)] * _SECOND  # noqa: FBT003
