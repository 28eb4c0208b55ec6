"""Cron entries, and decisions about which of their ticks are due.

A `CronEntry` ticks by a cron expression (`jobrt._core.schedule` has the rules) or at a fixed interval. A tick is
a point in time that depends on the entry alone, and not on when a process checks it. That is why a database
constraint on (entry, tick) guarantees one job per tick. `ticks_due` returns the ticks to fire:

========  ==================================================================================================
missed    ticks to fire, of those since the last fired tick
========  ==================================================================================================
skip      the latest, if it is not older than `TOLERANCE`; otherwise none
once      the latest: one job for all missed ticks
all       each, oldest first
========  ==================================================================================================

These ticks are never due: ticks before the entry was stored, ticks before its schedule last changed, and ticks
during a pause. All datetimes are aware, and results are in UTC.
"""

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

from jobrt._core.arguments import checked_count, refused, shown
from jobrt._core.schedule import Interval, Schedule, wall_clock
from jobrt._core.text import why_no_key
from jobrt.errors import InvalidJob, InvalidSetting

Missed: TypeAlias = Literal["skip", "once", "all"]

TOLERANCE: Final = timedelta(seconds=60)
"""Age up to which a tick does not count as missed.

Five fields have a resolution of one minute, and restarts and changes of the leader usually take less.
"""

# Six fields cannot tick more often than once a second either. A century keeps all results within datetime's range.
_MIN_INTERVAL: Final = timedelta(seconds=1)
_MAX_INTERVAL: Final = timedelta(days=36_525)

_MAX_TEXT_LENGTH: Final = 1_000
_MICROSECOND: Final = timedelta(microseconds=1)


def _utc(moment: datetime) -> datetime:
    """Return an aware datetime in UTC: arithmetic within one time zone ignores changes of its offset."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: use an aware datetime")
    return moment.astimezone(UTC)


def _step(value: timedelta | float | None) -> timedelta | None:
    """Return seconds as a timedelta; an invalid value is refused by `_check`, which can name the entry."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):
            return timedelta(seconds=value)
    return value  # type: ignore[return-value]  # refused by `_check`


@attrs.frozen(kw_only=True)
class CronEntry:
    """A job and its schedule; created by `cron_entry` or `from_spec`.

    Args:
        name: name of the entry, unique in the database.
        job: name of the job.
        args: payload of the job; JSON values.
        options: enqueue options that replace the job's own (``queue``, ``priority``, ``tags`` …); JSON values.
        expression: cron expression. Either this or `interval` is set.
        interval: time between ticks, at least a second. The first tick is at `anchor`.
        timezone: time zone of the expression.
        missed: policy for missed ticks, see the table of the module.
        since: time of the last change of the schedule; ticks up to it are never due. None: it never changed.
        declared: fingerprint of the declaration in code (see `reconcile`). None: created at run time.
        paused: whether the entry is paused; a paused entry does not tick.
        anchor: time when the entry was first stored, by the database's clock. None: it is not stored yet.
        version: version of the payload. None: the first one.

    Raises:
        InvalidSetting: a field is invalid, or the entry would never tick. The message names entry and field.
        InvalidJob: `args` or `options` are not JSON.

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
    version: int | None = None

    def __attrs_post_init__(self) -> None:
        try:
            _check(self)
        except InvalidSetting as error:
            raise InvalidSetting(f"cron entry {shown(self.name)}: {error}") from None
        _canonical([self.args, self.options], of=f"cron entry {shown(self.name)}: args and options")

    @property
    def schedule(self) -> str:
        """The schedule in one line: ``0 3 * * * Europe/Berlin``, ``every 1:30:00``."""
        if self.interval is not None:
            return f"every {self.interval}"
        zone = "" if self.timezone == "UTC" else f" {self.timezone}"
        return " ".join((self.expression or "").split()) + zone

    def spec(self) -> dict[str, Any]:
        """Return the fields to store as JSON; name, pause and anchor have columns of their own."""
        version = {} if self.version is None else {"version": self.version}
        return (
            {name: getattr(self, name) for name in _SPEC}
            | version
            | {
                "args": dict(self.args),
                "options": dict(self.options),
                "interval": None if self.interval is None else self.interval.total_seconds(),
                "since": None if self.since is None else self.since.isoformat(),
            }
        )

    @classmethod
    def from_spec(
        cls, name: str, spec: Mapping[str, Any], *, paused: bool = False, anchor: datetime | None = None
    ) -> Self:
        """Return the entry that was stored as `spec`; unknown keys, of a newer jobrt, are ignored.

        Raises:
            InvalidSetting: the stored entry is invalid; the message names it.

        """
        values = {key: spec[key] for key in (*_SPEC, "version") if key in spec}
        try:
            if values.get("since") is not None:
                values["since"] = datetime.fromisoformat(values["since"])
            return cls(name=name, paused=paused, anchor=anchor, **values)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InvalidSetting):
                raise
            raise InvalidSetting(f"cron entry {name!r} is stored with invalid fields: {error}") from error

    @property
    def fingerprint(self) -> str:
        """Digest of the declaration: eight bytes of SHA-256 in hexadecimal."""
        declaration = attrs.evolve(self, since=None, declared=None).spec()
        return _digest({key: value for key, value in declaration.items() if value is not None})


def cron_entry(
    job: str,
    *,
    expression: str | None = None,
    interval: timedelta | float | None = None,
    args: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    timezone: str | ZoneInfo = "UTC",
    missed: Missed = "once",
    name: str | None = None,
    version: int | None = None,
    first_name: str | None = None,
) -> CronEntry:
    """Return an entry that ticks by a cron expression, or when it is first stored and then at each interval.

    By default the name consists of job, schedule and payload. So it is the same at every start, and a job can
    have several entries with different schedules or payloads. Of a job with aliases it has `first_name`, the oldest
    name: so it is the same entry before and after the job is renamed.

    Raises:
        InvalidSetting: a field is invalid; the message names the entry and the field of the expression.
        InvalidJob: `args` or `options` are not JSON.

    """
    entry = CronEntry(
        name=job if name is None else name,
        job=job,
        args=_plain(args, of=f"cron job {job!r}: args"),
        options=_plain(options, of=f"cron job {job!r}: options"),
        expression=expression,
        interval=interval,
        timezone=str(timezone) if isinstance(timezone, ZoneInfo) else timezone,
        missed=missed,
        version=version,
    )
    if name is not None:
        return entry
    payload = f"#{_digest(entry.args)[:8]}" if entry.args else ""
    return attrs.evolve(entry, name=f"{first_name or job}[{entry.schedule}]{payload}")


def next_tick(entry: CronEntry, after: datetime) -> datetime | None:
    """Return the first tick of `entry` later than `after`; None if it is paused.

    An interval entry that is not stored has no anchor, so its next tick is one interval after `after`.
    """
    after = _utc(after)
    if entry.paused:
        return None
    bounds = _bounds(entry)
    return _schedule_of(entry, fallback=after).after(max([after, *bounds]))


def ticks_due(entry: CronEntry, *, last: datetime | None, now: datetime, limit: int = 100) -> list[datetime]:
    """Return the ticks to fire now, oldest first.

    The caller fires them, stores the last one and calls again, because more than `limit` ticks may be due.
    No tick up to `last` is due again, even after the clock was set back.

    Args:
        entry: the entry as stored, with its anchor. An entry that is not stored has no ticks due.
        last: the last tick that was fired; None if none was.
        now: current time, by the database's clock.
        limit: maximum number of ticks.

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
            return [latest] if now - latest <= TOLERANCE else []
        case _:
            assert_never(entry.missed)


def edit(entry: CronEntry, *, now: datetime, **changes: Any) -> CronEntry:
    """Return `entry` with fields changed at run time.

    If the schedule or the policy for missed ticks changes, or a pause ends, only ticks after `now` can be due.
    """
    edited = attrs.evolve(entry, **changes)
    resumed = entry.paused and not edited.paused
    return attrs.evolve(edited, since=now) if resumed or _differ(entry, edited) else edited


def reconcile(declared: CronEntry, stored: CronEntry | None, *, now: datetime) -> CronEntry:
    """Return the entry to store when an app starts that declares `declared`.

    If the declaration has not changed since it was stored, the stored entry is kept with its changes at run time: a
    restart does not undo them. A changed declaration replaces the entry, except for a pause.
    """
    declaration = attrs.evolve(declared, declared=declared.fingerprint)
    if stored is None:
        return declaration
    if stored.declared == declaration.declared:
        return stored
    since = now if _differ(declared, stored) else stored.since
    return attrs.evolve(declaration, since=since, paused=stored.paused, anchor=stored.anchor)


def orphaned(entry: CronEntry, declared: Container[str]) -> bool:
    """Return whether `entry` came from code that no longer declares it.

    An orphaned entry must not tick. By default the name contains the schedule, so after a change in code the old
    and the new entry would both tick. Workers that still run the old code declare the old entry and keep firing
    it. Entries created at run time are never orphaned.
    """
    return entry.declared is not None and entry.name not in declared


_SPEC: Final = ("job", "args", "options", "expression", "interval", "timezone", "missed", "since", "declared")


def _check(entry: CronEntry) -> None:
    if (entry.expression is None) == (entry.interval is None):
        raise InvalidSetting("use either a cron expression or an interval")
    for field in ("name", "job", "timezone", "expression"):
        value: object = getattr(entry, field)
        is_absent = value is None and field == "expression"
        if not is_absent and not (isinstance(value, str) and 0 < len(value) <= _MAX_TEXT_LENGTH):
            raise refused(
                field, value, use=f"a string of 1 to {_MAX_TEXT_LENGTH} characters", error=InvalidSetting
            )
        if isinstance(value, str) and (problem := why_no_key(value)):
            raise InvalidSetting(f"{field} is {shown(value)}: it {problem}; use another")
    for field in ("args", "options"):
        payload: object = getattr(entry, field)
        if not isinstance(payload, Mapping):
            raise refused(field, payload, use="a mapping", error=InvalidSetting)
    if entry.missed not in get_args(Missed):
        raise refused("missed", entry.missed, use="'skip', 'once' or 'all'", error=InvalidSetting)
    if entry.version is not None:
        checked_count("version", entry.version, least=1)
    step: object = entry.interval
    if step is not None and not (isinstance(step, timedelta) and _MIN_INTERVAL <= step <= _MAX_INTERVAL):
        remedy = "a timedelta or seconds, from one second to a century"
        raise refused("interval", step, use=remedy, error=InvalidSetting)
    if entry.expression is not None:
        wall_clock(entry.expression, entry.timezone)


def _schedule_of(entry: CronEntry, *, fallback: datetime) -> Schedule:
    """Return the schedule of `entry`; an interval without an anchor counts from `fallback`."""
    if entry.interval is not None:
        return Interval(entry.interval, _anchor(entry) or fallback)
    return wall_clock(entry.expression or "", entry.timezone)


def _anchor(entry: CronEntry) -> datetime | None:
    """Return the time from which `entry` may tick.

    Intervals count from a whole second, so that rounding in the database does not change their ticks.
    """
    if entry.anchor is None or entry.interval is None:
        return entry.anchor
    return entry.anchor.replace(microsecond=0)


def _bounds(entry: CronEntry) -> list[datetime]:
    """Return the times up to which no tick is due."""
    anchor = _anchor(entry)
    bounds = [] if anchor is None else [anchor - _MICROSECOND]  # a tick at the anchor itself is due
    return bounds if entry.since is None else [*bounds, entry.since]


def _between(schedule: Schedule, after: datetime, *, until: datetime) -> Iterator[datetime]:
    tick = schedule.after(after)
    while tick is not None and tick <= until:
        yield tick
        tick = schedule.after(tick)


def _differ(entry: CronEntry, other: CronEntry) -> bool:
    return (entry.schedule, entry.missed) != (other.schedule, other.missed)


def _canonical(value: object, *, of: str = "value") -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"{of} must be JSON: {error}") from None


def _plain(value: Mapping[str, Any] | None, *, of: str) -> dict[str, Any]:
    """Return a copy as it will be when read from the database: lists instead of tuples, for example."""
    plain: dict[str, Any] = json.loads(_canonical(dict(value or {}), of=of))
    return plain


def _digest(value: object) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]
