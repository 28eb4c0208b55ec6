"""Say what is enqueued by the clock, and which ticks are due.

A `CronEntry` ticks by a cron expression (`jobrt._core.schedule` has the rules) or at a fixed interval. A tick is
a moment that follows from the entry alone, not from when anybody looked; that is why a database constraint
can make it one job per tick. `ticks_due` says which ticks lie between the last one that was fired and now:

========  ==================================================================================================
missed    of several ticks that have passed since the last one that was fired
========  ==================================================================================================
skip      the latest, if it is no more than `ON_TIME` old; otherwise none
once      the latest: one job for all that was missed
all       each, oldest first
========  ==================================================================================================

What was never wanted is not missed: ticks from before the entry was made, from before its schedule was changed,
or from while it was paused. All times are aware; answers are in UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal, Self, TypeAlias, assert_never, get_args
from zoneinfo import ZoneInfo

import attrs
from attrs.converters import optional

from jobrt._core.schedule import Interval, Schedule, wall_clock
from jobrt.errors import InvalidJob, InvalidSetting

__all__ = [
    "ON_TIME",
    "CronEntry",
    "Missed",
    "cron_entry",
    "edit",
    "interval_entry",
    "next_tick",
    "orphaned",
    "reconcile",
    "ticks_due",
]

Missed: TypeAlias = Literal["skip", "once", "all"]

ON_TIME: Final = timedelta(seconds=60)
"""How late a tick may be fired and still not count as missed.

A minute, since that is how exact five fields are; restarts and changes of leader are usually shorter.
"""

# A tick a second is the most that six fields can say, too. A century keeps the arithmetic inside what dates hold.
_SHORTEST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=36_525)

_LONGEST_TEXT: Final = 1_000
_INSTANT: Final = timedelta(microseconds=1)


def _utc(moment: datetime) -> datetime:
    """Return an aware time in UTC, where differences and orders are what they seem."""
    if moment.tzinfo is None:
        msg = f"{moment!r} has no time zone"
        raise ValueError(msg)
    return moment.astimezone(UTC)


def _step(value: timedelta | float | None) -> timedelta | None:
    """Return seconds as a timedelta; what makes none is left to `_check`, which can name the entry."""
    if isinstance(value, int | float):
        with suppress(OverflowError, ValueError):
            return timedelta(seconds=value)
    return value  # type: ignore[return-value]  # refused by `_check`


@attrs.frozen(kw_only=True)
class CronEntry:
    """A job that is enqueued by the clock; made by `cron_entry`, `interval_entry` or `from_spec`.

    Args:
        name: unique among the entries of a database.
        job: the job's name.
        args: its payload, JSON-able.
        options: enqueue's options that differ from the job's own (``queue``, ``priority``, ``tags`` …), JSON-able.
        expression: the cron expression; or
        interval: the time from tick to tick, a second at least. The first tick is at `anchor`.
        timezone: the zone whose clock an expression means.
        missed: what becomes of ticks that nobody was there to fire; the module's table says.
        since: ticks up to here are not wanted, because the entry was changed then; None: it was not.
        declared: which declaration in code this came from (see `reconcile`); None: made at run time.
        paused: it does not tick.
        anchor: when it was first stored, by the database's clock; None: it is not stored yet.

    Raises:
        InvalidSetting: it cannot tick, or is malformed; names the entry and the field.
        InvalidJob: `args` or `options` are not JSON-able.

    """

    name: str
    job: str
    args: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    expression: str | None = None
    interval: timedelta | None = attrs.field(default=None, converter=_step)
    timezone: str = "UTC"
    missed: Missed = "once"
    since: datetime | None = attrs.field(default=None, converter=optional(_utc))
    declared: str | None = None
    paused: bool = False
    anchor: datetime | None = attrs.field(default=None, converter=optional(_utc))

    def __attrs_post_init__(self) -> None:
        try:
            _check(self)
        except InvalidSetting as error:
            msg = f"cron entry {self.name!r}: {error}"
            raise InvalidSetting(msg) from None
        _canonical([self.args, self.options], of=f"cron entry {self.name!r}: args and options")

    @property
    def schedule(self) -> str:
        """Say in one line when this ticks: ``0 3 * * * Europe/Berlin``, ``every 1:30:00``."""
        if self.interval is not None:
            return f"every {self.interval}"
        zone = "" if self.timezone == "UTC" else f" {self.timezone}"
        return " ".join((self.expression or "").split()) + zone

    def spec(self) -> dict[str, Any]:
        """Return what is stored of this, beside name, pause and anchor; JSON-able."""
        return {
            "job": self.job,
            "args": dict(self.args),
            "options": dict(self.options),
            "expression": self.expression,
            "interval": None if self.interval is None else self.interval.total_seconds(),
            "timezone": self.timezone,
            "missed": self.missed,
            "since": None if self.since is None else self.since.isoformat(),
            "declared": self.declared,
        }

    @classmethod
    def from_spec(
        cls, name: str, spec: Mapping[str, Any], *, paused: bool = False, anchor: datetime | None = None
    ) -> Self:
        """Return the entry that was stored as `spec`; unknown keys (of a newer jobrt) are left alone.

        Raises:
            InvalidSetting: the stored entry cannot be read; names it.

        """
        values = {key: spec[key] for key in _SPEC if key in spec}
        try:
            if values.get("since") is not None:
                values["since"] = datetime.fromisoformat(values["since"])
            return cls(name=name, paused=paused, anchor=anchor, **values)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InvalidSetting):
                raise
            msg = f"cron entry {name!r} is stored in a form that cannot be read: {error}"
            raise InvalidSetting(msg) from error

    @property
    def fingerprint(self) -> str:
        """Return what tells this declaration from another: eight bytes of SHA-256, as hexadecimal digits."""
        said = attrs.evolve(self, since=None, declared=None).spec()
        return _digest({key: value for key, value in said.items() if value is not None})


def cron_entry(
    expression: str,
    job: str,
    *,
    args: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    timezone: str | ZoneInfo = "UTC",
    missed: Missed = "once",
    name: str | None = None,
) -> CronEntry:
    """Return an entry that ticks by the clock.

    The name is by default made of job, schedule and payload, so that it is the same at every start, and
    several schedules of one job, or one schedule with several payloads, are several entries.

    Raises:
        InvalidSetting: names the entry and the field of the expression.
        InvalidJob: `args` or `options` are not JSON-able.

    """
    entry = CronEntry(
        name=name or job,
        job=job,
        args=_plain(args, of=f"cron job {job!r}: args"),
        options=_plain(options, of=f"cron job {job!r}: options"),
        expression=expression,
        timezone=str(timezone),
        missed=missed,
    )
    return _named(name, entry)


def interval_entry(
    interval: timedelta | float,
    job: str,
    *,
    args: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    missed: Missed = "once",
    name: str | None = None,
) -> CronEntry:
    """Return an entry that ticks when it is first stored, and every `interval` (timedelta or seconds) after that.

    Raises:
        InvalidSetting: the interval is not between a second and a century.
        InvalidJob: `args` or `options` are not JSON-able.

    """
    entry = CronEntry(
        name=name or job,
        job=job,
        args=_plain(args, of=f"cron job {job!r}: args"),
        options=_plain(options, of=f"cron job {job!r}: options"),
        interval=interval,
        missed=missed,
    )
    return _named(name, entry)


def next_tick(entry: CronEntry, after: datetime) -> datetime | None:
    """Return the first tick of `entry` later than `after`; None if it is paused.

    For an interval that is not stored yet, and so has no anchor, that is one interval after `after`.
    """
    after = _utc(after)
    if entry.paused:
        return None
    bounds = _bounds(entry)
    return _schedule_of(entry, fallback=after).after(max([after, *bounds]))


def ticks_due(entry: CronEntry, *, last: datetime | None, now: datetime, limit: int = 100) -> list[datetime]:
    """Return the ticks to fire now, oldest first.

    Whoever fires them stores the last one, and asks again: with more than `limit` due the rest comes then. A clock
    that was set back makes nothing due that was fired before.

    Args:
        entry: as stored, with its anchor. One that is not stored has nothing due.
        last: the last tick that was fired; None: none was.
        now: by the database's clock.
        limit: how many at most.

    """
    now = _utc(now)
    bounds = _bounds(entry) if last is None else [*_bounds(entry), _utc(last)]
    if entry.paused or not bounds:
        return []
    after, schedule = max(bounds), _schedule_of(entry, fallback=bounds[-1])
    latest = schedule.until(now)
    if latest is None or latest <= after:
        return []
    match entry.missed:
        case "all":
            return list(islice(_between(schedule, after, until=now), limit))
        case "once":
            return [latest]
        case "skip":
            return [latest] if now - latest <= ON_TIME else []
        case _:
            assert_never(entry.missed)


def edit(entry: CronEntry, *, now: datetime, **changes: Any) -> CronEntry:
    """Return `entry` with some fields changed, at run time.

    If that changes which ticks are wanted (another schedule, another way with missed ones, the end of a pause),
    they are wanted from `now` on.
    """
    edited = attrs.evolve(entry, **changes)
    resumed = entry.paused and not edited.paused
    return attrs.evolve(edited, since=now) if resumed or _differ(entry, edited) else edited


def reconcile(declared: CronEntry, stored: CronEntry | None, *, now: datetime) -> CronEntry:
    """Return what shall be stored of an entry that an app declares at its start, given what is stored.

    What somebody changed at run time holds until the code says something else than it said when it was stored;
    then the code holds. So restarts undo no change, and a deployment is not ignored.
    """
    declaration = attrs.evolve(declared, declared=declared.fingerprint)
    if stored is None:
        return declaration
    if stored.declared == declaration.declared:
        return stored
    since = now if _differ(declared, stored) else stored.since
    return attrs.evolve(declaration, since=since, paused=stored.paused, anchor=stored.anchor)


def orphaned(entry: CronEntry, declared: Container[str]) -> bool:
    """Return whether a stored entry came from code that no longer has it, given the names that are declared now.

    It must not tick here: an entry whose schedule has changed in code has another name by default, and would tick
    by both. Workers that still run the older code declare it, and go on with it. What was made at run time belongs
    to every worker.
    """
    return entry.declared is not None and entry.name not in declared


_SPEC: Final = ("job", "args", "options", "expression", "interval", "timezone", "missed", "since", "declared")


def _named(name: str | None, entry: CronEntry) -> CronEntry:
    """Return `entry` under the name given, or one made of what tells entries of a job apart."""
    if name is not None:
        return attrs.evolve(entry, name=name)
    payload = f"#{_digest(entry.args)[:8]}" if entry.args else ""
    return attrs.evolve(entry, name=f"{entry.job}[{entry.schedule}]{payload}")


def _check(entry: CronEntry) -> None:
    """Refuse an entry that cannot tick."""
    if (entry.expression is None) == (entry.interval is None):
        msg = "give a cron expression or an interval, one of them"
        raise InvalidSetting(msg)
    for field in ("name", "job", "timezone", "expression"):
        value: object = getattr(entry, field)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT):
            msg = f"{field} is {value!r}: give a text of 1 to {_LONGEST_TEXT} characters"
            raise InvalidSetting(msg)
    for field in ("args", "options"):
        payload: object = getattr(entry, field)
        if not isinstance(payload, Mapping):
            msg = f"{field} is {payload!r}: give a mapping"
            raise InvalidSetting(msg)
    if entry.missed not in get_args(Missed):
        msg = f"missed is {entry.missed!r}: use 'skip', 'once' or 'all'"
        raise InvalidSetting(msg)
    step: object = entry.interval
    if step is not None and not (isinstance(step, timedelta) and _SHORTEST <= step <= _LONGEST):
        msg = f"interval is {step}: give a timedelta, or seconds, between a second and a century"
        raise InvalidSetting(msg)
    if entry.expression is not None:
        wall_clock(entry.expression, entry.timezone)


def _schedule_of(entry: CronEntry, *, fallback: datetime) -> Schedule:
    """Return what `entry` ticks by; an interval without an anchor counts from `fallback`."""
    if entry.interval is not None:
        return Interval(entry.interval, _anchor(entry) or fallback)
    return wall_clock(entry.expression or "", entry.timezone)


def _anchor(entry: CronEntry) -> datetime | None:
    """Return from when on `entry` may tick.

    Intervals count from the whole second: what a database rounds is then never part of a tick.
    """
    if entry.anchor is None or entry.interval is None:
        return entry.anchor
    return entry.anchor.replace(microsecond=0)


def _bounds(entry: CronEntry) -> list[datetime]:
    """Return moments up to which no tick is wanted."""
    anchor = _anchor(entry)
    bounds = [] if anchor is None else [anchor - _INSTANT]
    return bounds if entry.since is None else [*bounds, entry.since]


def _between(schedule: Schedule, after: datetime, *, until: datetime) -> Iterator[datetime]:
    """Yield the ticks later than `after` and not later than `until`."""
    tick = schedule.after(after)
    while tick is not None and tick <= until:
        yield tick
        tick = schedule.after(tick)


def _differ(one: CronEntry, other: CronEntry) -> bool:
    """Return whether two entries want different ticks."""
    return (one.schedule, one.missed) != (other.schedule, other.missed)


def _canonical(value: object, *, of: str = "value") -> str:
    """Return the one JSON text that equal values have."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{of} must be JSON: {error}"
        raise InvalidJob(msg) from None


def _plain(value: Mapping[str, Any] | None, *, of: str) -> dict[str, Any]:
    """Return a copy that is what it will be when it comes back from the database."""
    plain: dict[str, Any] = json.loads(_canonical(dict(value or {}), of=of))
    return plain


def _digest(value: object) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]
