"""Schedules: ticks at an interval, or by a cron expression in a time zone.

An expression has five fields (minute, hour, day of month, month, day of week), or six with seconds first. Aliases
such as ``@daily`` are expressions too. cronsim parses an expression and finds matching *wall times*, which are local
times without an offset. This module converts wall times to ticks in UTC. When the clocks change, it follows the rule
of Debian's cron, for five fields and for six:

===============================  ===============================  ======================================
expression                       at a skipped wall time           at a repeated wall time
===============================  ===============================  ======================================
*fixed*: neither hour, minute    ticks once, at the moment when   ticks the first time
nor second begins with ``*``     the clocks go forward
*repeating*: one of them does    does not tick                    ticks both times
===============================  ===============================  ======================================

So a nightly job runs exactly once every night, and a job of every ten minutes runs every ten minutes.

cronsim 2.8 supports time zones itself, but is not used for them. It has this rule for five fields only. It loses
ticks where the clocks change by half an hour (Lord Howe). Within a repeated hour it can return a tick before the
start.
"""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import attrs
from cronsim import CronSim, CronSimError

from jobrt.errors import InvalidSetting

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# Name and allowed values of each of the six fields.
_FIELDS: Final = (
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L (the last) or LW (the last weekday)"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 (0 and 7 are Sunday), SUN-SAT, 5L (the last Friday) or 5#2 (the second)"),
)

# Longer than any useful expression. Without a limit, int() raises an error of its own above 4,300 digits.
_MAX_EXPRESSION_LENGTH: Final = 200

_SECOND: Final = timedelta(seconds=1)

# The rarest dates, such as Monday 29 February, are at most 40 years apart, across a century without leap year.
# An expression without a match within 50 years after a leap year has no match; cronsim assumes the same.
_HORIZON: Final = timedelta(days=50 * 365.25)
_LEAP_YEAR: Final = datetime(2024, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """Interface of a schedule. Datetimes are aware, and results are in UTC."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick later than `moment`, or None if there is none within fifty years."""
        ...

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None if there is none within fifty years."""
        ...


@attrs.frozen
class Interval:
    """Schedule that ticks at `anchor` and at each multiple of `step` after it, without drift."""

    step: timedelta
    anchor: datetime

    def after(self, moment: datetime) -> datetime:
        """Return the first tick later than `moment`."""
        return self.anchor if moment < self.anchor else self._last(moment) + self.step

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None if `moment` is before the anchor."""
        return None if moment < self.anchor else self._last(moment)

    def _last(self, moment: datetime) -> datetime:
        return self.anchor + (moment - self.anchor) // self.step * self.step


@attrs.frozen
class WallClock:
    """Schedule that ticks when an expression matches the wall time of a zone; created by `wall_clock`."""

    expression: str
    zone: tzinfo
    fixed: bool

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick later than `moment`, or None if there is none within fifty years."""
        local = moment.astimezone(self.zone)
        starts = [_wall(local)]
        repeated = _repeated(local)
        if repeated is not None and local.fold == 0:
            # The clock will go back: wall times from the start of the repeated hour on come once more.
            starts.append(repeated[0] - _SECOND)
        return min((tick for start in starts for tick in self._first(start, later_than=moment)), default=None)

    def until(self, moment: datetime) -> datetime | None:
        """Return the last tick not later than `moment`, or None if there is none within fifty years."""
        local = moment.astimezone(self.zone)
        starts = [_wall(local) + _SECOND]
        repeated = _repeated(local)
        if repeated is not None and local.fold == 1:
            # The clock went back: before that, wall times were later than now.
            starts.append(repeated[1])
        return max(
            (tick for start in starts for tick in self._last(start, not_later_than=moment)), default=None
        )

    def _first(self, start: datetime, *, later_than: datetime) -> Iterable[datetime]:
        """Yield the first tick after `later_than` whose wall time is after `start`, if there is one."""
        walls = takewhile(lambda wall: wall <= start + _HORIZON, CronSim(self.expression, start))
        ticks = (tick for wall in walls for tick in self._ticks(wall))
        return islice((tick for tick in ticks if tick > later_than), 1)

    def _last(self, start: datetime, *, not_later_than: datetime) -> Iterable[datetime]:
        """Yield the last tick up to `not_later_than` whose wall time is before `start`, if there is one."""
        matches = CronSim(self.expression, start, reverse=True)
        walls = takewhile(lambda wall: wall >= start - _HORIZON, matches)
        ticks = (tick for wall in walls for tick in reversed(self._ticks(wall)))
        return islice((tick for tick in ticks if tick <= not_later_than), 1)

    def _ticks(self, wall: datetime) -> tuple[datetime, ...]:
        """Return the ticks at a wall time, by the rule of this module: none, one or two."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first < second:
            return (first,) if self.fixed else (first, second)
        if first > second:
            return (_change(self.zone, second, until=first),) if self.fixed else ()
        return (first,)


@lru_cache(maxsize=1024)
def wall_clock(expression: str, timezone: str) -> WallClock:
    """Return the schedule of an expression in a time zone.

    Raises:
        InvalidSetting: a field is invalid, the time zone is unknown, or the expression never matches (30 February).
            The message names the field and its allowed values.

    """
    fields = _fields(expression)
    zone = _zone(timezone)
    seconds_first = ["0", *fields][-6:]
    clock = WallClock(
        " ".join(fields), zone, fixed=not any(field.startswith("*") for field in seconds_first[:3])
    )
    try:
        matches = clock.after(_LEAP_YEAR) is not None
    except CronSimError:  # cronsim detects some impossible dates, such as 30 February
        matches = False
    if not matches:
        day, month, weekday = fields[-3:]
        raise InvalidSetting(
            f"{expression!r} never matches in {timezone}: "
            f"no day has day of month {day!r}, month {month!r}, day of week {weekday!r} and this time of day"
        )
    return clock


def _fields(expression: str) -> list[str]:
    """Return the five or six fields, after checking each of them."""
    if len(expression) > _MAX_EXPRESSION_LENGTH:
        length = f"{len(expression)} characters, more than {_MAX_EXPRESSION_LENGTH}"
        raise InvalidSetting(f"{expression[:20]!r}… has {length}; use a shorter expression")
    if expression.strip().startswith("@") and expression.strip().lower() not in ALIASES:
        aliases = ", ".join(ALIASES)
        raise InvalidSetting(f"{expression!r} is not one of {aliases}; for an interval use App.every")
    fields = ALIASES.get(expression.strip().lower(), expression).split()
    if len(fields) not in {5, 6}:
        raise InvalidSetting(
            f"{expression!r} has {len(fields)} fields; use five (minute, hour, day of month, month, "
            "day of week), or six with the second first"
        )
    for position, field in enumerate(fields, 6 - len(fields)):
        _check_field(expression, position, field=field)
    return fields


def _check_field(expression: str, position: int, *, field: str) -> None:
    fields = ["*"] * 6
    fields[position] = field
    try:
        CronSim(" ".join(fields), _wall(_LEAP_YEAR))
    except CronSimError:
        name, allowed = _FIELDS[position]
        label = f"{name} {field!r} in {expression!r}"
        raise InvalidSetting(f"{label}: use {allowed}, alone or with * , - /") from None


def _zone(name: str) -> tzinfo:
    """Return the time zone with a name; UTC is found even without a time zone database."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (
        LookupError,
        ValueError,
        OSError,
    ):  # unknown; a path outside the database; a folder of the database
        raise InvalidSetting(f"timezone {name!r} is unknown: use a name such as 'Europe/Berlin'") from None


def _wall(local: datetime) -> datetime:
    return local.replace(tzinfo=None, microsecond=0, fold=0)


def _repeated(local: datetime) -> tuple[datetime, datetime] | None:
    """Return start and end of the repeated wall times around `local`, or None if `local` is not repeated."""
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return None
    change = _change(local.tzinfo or UTC, first, until=second)
    end = change + (local.replace(fold=0).utcoffset() or timedelta(0))
    return _wall(change.astimezone(local.tzinfo)), _wall(end)


def _change(zone: tzinfo, moment: datetime, *, until: datetime) -> datetime:
    """Return the first moment after `moment` with another offset; the offset changes before or at `until`."""
    offset = moment.astimezone(zone).utcoffset()
    seconds = range(1, int((until - moment).total_seconds()) + 1)

    def changed(after: int) -> bool:
        return (moment + after * _SECOND).astimezone(zone).utcoffset() != offset

    return moment + seconds[bisect_left(seconds, True, key=changed)] * _SECOND  # noqa: FBT003
