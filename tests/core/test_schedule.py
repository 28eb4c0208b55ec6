"""Ticks of expressions and intervals, checked minute by minute around changes of the clocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrt._core import schedule
from jobrt._core.schedule import ALIASES, Interval, WallClock, wall_clock
from jobrt.errors import InvalidSetting

# For tests that run for each zone and check thousands of moments in each example.
few = settings(max_examples=settings().max_examples // 4)

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    """Return the datetime of an ISO text, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Zone, and the moment of a change. Lord Howe changes by half an hour, Havana at midnight, and Samoa skipped a day.
# London changes from UTC to summer time. The last two zones have no change.
CHANGES = [
    ("Europe/Berlin", utc("2026-03-29T01:00")),
    ("Europe/Berlin", utc("2026-10-25T01:00")),
    ("America/New_York", utc("2026-03-08T07:00")),
    ("America/New_York", utc("2026-11-01T06:00")),
    ("Australia/Lord_Howe", utc("2026-10-03T15:30")),
    ("Australia/Lord_Howe", utc("2026-04-04T15:00")),
    ("America/Havana", utc("2026-03-08T05:00")),
    ("America/Havana", utc("2026-11-01T05:00")),
    ("Pacific/Apia", utc("2011-12-30T10:00")),
    ("Europe/London", utc("2026-03-29T01:00")),
    ("UTC", utc("2026-03-29T01:00")),
    ("Asia/Kolkata", utc("2026-03-29T01:00")),
]


@attrs.frozen
class Field:
    """A field of an expression, and its values, found without cronsim."""

    text: str
    values: frozenset[int]


def fields(top: int) -> st.SearchStrategy[Field]:
    """Generate fields with values below `top`."""
    numbers = st.integers(0, top - 1)
    return st.one_of(
        st.just(Field("*", frozenset(range(top)))),
        st.integers(2, top).map(lambda n: Field(f"*/{n}", frozenset(range(0, top, n)))),
        numbers.map(lambda n: Field(str(n), frozenset({n}))),
        st.sets(numbers, min_size=2, max_size=5).map(
            lambda many: Field(",".join(map(str, sorted(many))), frozenset(many))
        ),
        st.tuples(numbers, numbers).map(
            lambda ends: Field(f"{min(ends)}-{max(ends)}", frozenset(range(min(ends), max(ends) + 1)))
        ),
    )


@lru_cache
def walls(
    zone: str, start: datetime, *, end: datetime, step: timedelta
) -> Sequence[tuple[datetime, datetime]]:
    """Return each moment of a period with its wall time."""
    found = []
    while start <= end:
        found.append((start, start.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)))
        start += step
    return found


def expected(
    clock: Sequence[tuple[datetime, datetime]], *, hours: Field, minutes: Field, seconds: Field, fixed: bool
) -> list[datetime]:
    """Return the ticks, found by checking each moment and each skipped wall time."""

    def matches(wall: datetime) -> bool:
        return wall.hour in hours.values and wall.minute in minutes.values and wall.second in seconds.values

    if not fixed:
        return [moment for moment, wall in clock if matches(wall)]
    step = clock[1][0] - clock[0][0]
    ticks, shown = [], clock[0][1] - step
    for moment, wall in clock:
        if wall <= shown:  # a repeated wall time: the clock went back
            continue
        skipped_or_now = (shown + step * n for n in range(1, (wall - shown) // step + 1))
        if any(matches(time) for time in skipped_or_now):
            ticks.append(moment)
        shown = wall
    return ticks


def follow(clock: WallClock, start: datetime, end: datetime) -> list[datetime]:
    """Return the ticks of a period, found one after the other as a scheduler does."""
    ticks = []
    tick = clock.after(start)
    while tick is not None and tick <= end:
        ticks.append(tick)
        tick = clock.after(tick)
    return ticks


@few
@given(data=st.data(), minutes=fields(60), hours=fields(24))
@pytest.mark.parametrize(("zone", "change"), CHANGES, ids=lambda value: str(value).replace("/", "_"))
def test_every_minute_around_a_change(
    *, data: st.DataObject, minutes: Field, hours: Field, zone: str, change: datetime
) -> None:
    """From any start, the ticks are exactly those of the rule, and strictly ascend."""
    start, end = change - timedelta(hours=5), change + timedelta(hours=4)
    clock = wall_clock(f"{minutes.text} {hours.text} * * *", zone)
    truth = expected(
        walls(zone, start, end=end, step=MINUTE),
        hours=hours,
        minutes=minutes,
        seconds=Field("0", frozenset({0})),
        fixed=not (minutes.text.startswith("*") or hours.text.startswith("*")),
    )
    # Starting an hour later keeps the table correct if it begins in a repeated hour.
    origin = start + timedelta(hours=1) + data.draw(st.integers(0, 6 * 60)) * MINUTE
    origin += data.draw(st.integers(-1, 1)) * MICROSECOND
    assert follow(clock, origin, end) == [tick for tick in truth if tick > origin]

    for near in data.draw(st.lists(st.integers(-90, 90), min_size=5, max_size=5)):
        moment = change + near * MINUTE + data.draw(st.integers(-1, 59 * 10**6)) * MICROSECOND
        passed = [tick for tick in truth if tick <= moment]
        assert clock.until(moment) == (passed[-1] if passed else clock.until(start))


@few
@given(data=st.data(), seconds=fields(60), minutes=fields(60), hours=fields(24))
@pytest.mark.parametrize(("zone", "change"), CHANGES[:8], ids=lambda value: str(value).replace("/", "_"))
def test_every_second_around_a_change(
    *, data: st.DataObject, seconds: Field, minutes: Field, hours: Field, zone: str, change: datetime
) -> None:
    """The rule is the same with seconds; a step in either direction gives the adjacent tick."""
    start, end = change - timedelta(hours=3), change + timedelta(hours=2)
    texts = (seconds.text, minutes.text, hours.text)
    clock = wall_clock(f"{' '.join(texts)} * * *", zone)
    truth = expected(
        walls(zone, start, end=end, step=SECOND),
        hours=hours,
        minutes=minutes,
        seconds=seconds,
        fixed=not any(text.startswith("*") for text in texts),
    )
    for _ in range(10):
        # No moment is drawn from the first hour, so that ticks before the table do not matter.
        moment = start + timedelta(hours=1) + data.draw(st.integers(0, 4 * 3600)) * SECOND
        moment += data.draw(st.sampled_from([0, 1, 500_000])) * MICROSECOND
        following = [tick for tick in truth if tick > moment]
        preceding = [tick for tick in truth if tick <= moment]
        after, until = clock.after(moment), clock.until(moment)
        assert after is not None
        assert until is not None
        assert after == following[0] if following else after > end
        assert until == preceding[-1] if preceding else until < start


@given(
    expression=st.sampled_from(
        ["0 3 * * *", "*/7 * * * *", "0 0 29 2 *", "0 0 L * *", "30 1 * * 0#1", "5 4 3 2 1"]
    ),
    zone=st.sampled_from([zone for zone, _ in CHANGES]),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_neighbours(expression: str, zone: str, moment: datetime) -> None:
    """The ticks before and after a moment are adjacent: no other tick lies between them."""
    clock = wall_clock(expression, zone)
    before, after = clock.until(moment), clock.after(moment)
    assert before is not None
    assert after is not None
    assert before <= moment < after
    assert clock.after(before) == after
    assert clock.until(after - MICROSECOND) == before


def ticks(expression: str, zone: str, *, start: str, count: int) -> list[str]:
    """Return the first ticks after a moment, as local times with offsets."""
    clock, moment, found = wall_clock(expression, zone), utc(start), []
    for _ in range(count):
        tick = clock.after(moment)
        assert tick is not None
        moment = tick
        found.append(moment.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z"))
    return found


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_fixed_time_that_is_skipped(expression: str) -> None:
    """A nightly job at a skipped time runs when the clocks go forward, with seconds and without."""
    nights = ticks(expression, "Europe/Berlin", start="2026-03-27T12:00", count=4)
    assert nights == ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200", "31 02:30 +0200"]


@pytest.mark.parametrize("expression", ["50 * * * *", "59 59 * * * *", "50 2 * * *", "59 59 2 * * *"])
def test_last_tick_seen_from_the_repeated_hour(expression: str) -> None:
    """After the clocks went back, the last tick can have a later wall time than now."""
    clock = wall_clock(expression, "Europe/Berlin")
    first = clock.after(utc("2026-10-25T00:00"))
    assert first is not None
    assert first < utc("2026-10-25T01:00")
    assert clock.until(utc("2026-10-25T01:10")) == first


def test_several_skipped_times_run_once() -> None:
    """All times in the skipped hour are one tick, together with a time at the end of that hour."""
    assert ticks("15,45 2,3 * * *", "Europe/Berlin", start="2026-03-29T00:00", count=3) == [
        "29 03:00 +0200",
        "29 03:15 +0200",
        "29 03:45 +0200",
    ]
    assert ticks("0 2,3 * * *", "Europe/Berlin", start="2026-03-29T00:00", count=2) == [
        "29 03:00 +0200",
        "30 02:00 +0200",
    ]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_fixed_time_that_is_repeated(expression: str) -> None:
    """A nightly job in the repeated hour runs the first time only, even if that tick was missed."""
    nights = ticks(expression, "Europe/Berlin", start="2026-10-24T12:00", count=2)
    assert nights == ["25 02:30 +0200", "26 02:30 +0100"]
    assert ticks(expression, "Europe/Berlin", start="2026-10-25T01:10", count=1) == ["26 02:30 +0100"]


def test_repeating_entries_when_the_clocks_change() -> None:
    """An entry with a star in hour or minute runs in both repeated hours, and not in the skipped one."""
    assert ticks("30 * * * *", "Europe/Berlin", start="2026-03-29T00:00", count=2) == [
        "29 01:30 +0100",
        "29 03:30 +0200",
    ]
    assert ticks("30 * * * *", "Europe/Berlin", start="2026-10-25T00:00", count=3) == [
        "25 02:30 +0200",
        "25 02:30 +0100",
        "25 03:30 +0100",
    ]
    assert ticks("*/30 2 * * *", "Europe/Berlin", start="2026-03-29T00:00", count=1) == ["30 02:00 +0200"]


def test_half_hour_change() -> None:
    """No tick is lost where the clocks change by half an hour."""
    assert ticks("*/20 2 * * *", "Australia/Lord_Howe", start="2026-04-04T14:00", count=3) == [
        "05 02:00 +1030",
        "05 02:20 +1030",
        "05 02:40 +1030",
    ]
    assert ticks("15 2 * * *", "Australia/Lord_Howe", start="2026-10-03T14:00", count=1) == ["04 02:30 +1100"]


@pytest.mark.parametrize(("alias", "expression"), sorted(ALIASES.items()))
def test_aliases(alias: str, expression: str) -> None:
    """An alias means its expression, in upper or lower case and with surrounding whitespace."""
    assert wall_clock(f" {alias.upper()} ", "UTC") == wall_clock(expression, "UTC")


def test_names_and_specials() -> None:
    """Names of days and months, and the last day, last weekday and n-th weekday of a month are supported."""
    day = "%Y-%m-%d"
    cases = {
        "0 0 * JAN MON-FRI": "2026-01-01",
        "0 0 L * *": "2026-01-31",
        "0 0 LW * *": "2026-01-30",
        "0 0 * * 5#2": "2026-01-09",
        "0 0 * * 5L": "2026-01-30",
        "0 0 13 * 5": "2026-01-02",
    }
    found = {text: wall_clock(text, "UTC").after(utc("2025-12-31T12:00")) for text in cases}
    assert {text: first and first.strftime(day) for text, first in found.items()} == cases


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("60 3 * * *", "minute '60' in '60 3 * * *': use 0-59"),
        ("0 24 * * *", "hour '24'"),
        ("0 3 0 * *", "day of month '0'"),
        ("0 3 32 * *", "day of month '32'"),
        ("0 3 * 13 *", "month '13'"),
        ("0 3 * * 8", "day of week '8'"),
        ("0 3 * * FOO", "day of week 'FOO'"),
        ("75 0 3 * * *", "second '75'"),
        ("0 60 3 * * *", "minute '60'"),
        ("*/0 3 * * *", "minute '*/0'"),
        ("5-1 3 * * *", "minute '5-1'"),
        ("-1 3 * * *", "minute '-1'"),
        ("² 3 * * *", "minute '²'"),
        ("0 3 15W * *", "day of month '15W'"),
        ("0 3 * * ?", "day of week '?'"),
        ("", "has 0 fields"),
        ("0 3 * *", "has 4 fields; use five"),
        ("0 0 3 * * * 2026", "has 7 fields"),
        ("@reboot", "is not one of @yearly"),
        ("@every 5m", "for an interval use App.every"),
        ("1" * 5000 + " * * * *", "has 5008 characters, more than 200"),
    ],
    ids=range(21),
)
def test_bad_expressions(expression: str, message: str) -> None:
    """An invalid expression is refused; the message names the field, its value and the allowed values."""
    with pytest.raises(InvalidSetting) as refused:
        wall_clock(expression, "UTC")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("0 0 30 2 *", "UTC"),
        ("0 0 31 4,6 *", "UTC"),
        ("0 0 */15 * 1#2", "UTC"),
        ("*/5 2 * 3 7L", "Europe/Berlin"),
        ("*/20 */20 2 * 3 0L", "Europe/Berlin"),
    ],
)
def test_schedules_that_never_match(expression: str, zone: str) -> None:
    """An expression without any tick is refused, whether the date or the time of day never exists."""
    with pytest.raises(InvalidSetting, match=f"never matches in {zone}: no day has day of month"):
        wall_clock(expression, zone)


def test_rare_dates_match() -> None:
    """Ticks may be forty years apart, as for Monday 29 February around 2100."""
    clock = wall_clock("0 0 */28 2 MON#5", "UTC")
    found, moment = [], utc("2040-01-01T00:00")
    for _ in range(3):
        tick = clock.after(moment)
        assert tick is not None
        moment = tick
        found.append(moment.year)
    assert found == [2044, 2072, 2112]


def test_nothing_within_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ends after fifty years in either direction, and returns None."""
    clock = WallClock("*/5 2 * 3 0L", ZoneInfo("Europe/Berlin"), fixed=False)
    monkeypatch.setattr(schedule, "_HORIZON", timedelta(days=800))
    moment = utc("2026-06-01T00:00")
    assert clock.after(moment) is None
    assert clock.until(moment) is None
    never = WallClock("0 0 */15 * 1#2", UTC, fixed=False)
    assert never.after(moment) is None
    assert never.until(moment) is None


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe", "Europe/Berlin\0", "é"]
)
def test_bad_time_zones(zone: str) -> None:
    """An unknown zone, a folder of zones, and a path are refused by name."""
    with pytest.raises(InvalidSetting, match=r"timezone .* is unknown: use a name such as"):
        wall_clock("0 3 * * *", zone)


def test_utc_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTC works on a machine without time zone files."""

    def missing(name: str) -> Any:
        raise KeyError(name)

    monkeypatch.setattr(schedule, "ZoneInfo", missing)
    assert wall_clock("1 2 3 4 5", "UTC").zone is UTC


def test_interval_counts_from_its_anchor() -> None:
    """The ticks are anchor, anchor + step, and so on; none before, and no drift after a million."""
    anchor = utc("2026-01-01T00:00:01")
    every = Interval(timedelta(seconds=90), anchor)
    assert every.until(anchor - MICROSECOND) is None
    assert every.after(anchor - timedelta(days=1)) == anchor
    assert every.until(anchor) == anchor
    assert every.after(anchor) == anchor + 90 * SECOND
    assert every.after(anchor + 89 * SECOND) == anchor + 90 * SECOND
    late = anchor + 10**6 * timedelta(seconds=90)
    assert every.until(late) == late
    assert every.until(late - MICROSECOND) == late - timedelta(seconds=90)
    assert every.after(late - MICROSECOND) == late
