"""Cron entries: valid fields, due ticks, and that no restart, clock change or poll repeats or loses a tick."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrt._core.cron import TOLERANCE, CronEntry, cron_entry, edit, next_tick, orphaned, reconcile, ticks_due
from jobrt.errors import InvalidJob, InvalidSetting

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    """Return the datetime of an ISO text, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


START = utc("2026-03-01T00:00:30.5")


def stored(entry: CronEntry, *, at: datetime = START, **changes: Any) -> CronEntry:
    """Return an entry as it is read from the database, when it was stored at a given time."""
    return attrs.evolve(entry, anchor=at, **changes)


def nightly(*, missed: Any = "once", **changes: Any) -> CronEntry:
    """Return a stored entry that ticks at three o'clock in Berlin."""
    return stored(
        cron_entry("Nightly", expression="0 3 * * *", timezone="Europe/Berlin", missed=missed), **changes
    )


class Cluster:
    """The schedulers of a cluster, which share the last tick of an entry and nothing else."""

    def __init__(self, entry: CronEntry, *, last: datetime | None = None, limit: int = 100) -> None:
        self.entry, self.last, self.limit = entry, last, limit
        self.fired: list[datetime] = []

    def poll(self, *times: datetime) -> list[datetime]:
        """Poll at each of these times; return the ticks fired."""
        before = len(self.fired)
        for now in times:
            while due := ticks_due(self.entry, last=self.last, now=now, limit=self.limit):
                self.fired += due
                self.last = due[-1]
        return self.fired[before:]


def truth(entry: CronEntry, after: datetime, *, until: datetime) -> list[datetime]:
    """Return all ticks of a period, found one after the other."""
    found = []
    tick = next_tick(entry, after)
    while tick is not None and tick <= until:
        found.append(tick)
        tick = next_tick(entry, tick)
    return found


# ------------------------------------------------------------------ what is due


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_nothing_is_due_before_the_first_tick(missed: Any) -> None:
    """No tick from before an entry was stored is due."""
    entry = nightly(missed=missed, at=utc("2026-03-01T12:00"))
    assert ticks_due(entry, last=None, now=utc("2026-03-02T01:59:59")) == []
    assert ticks_due(entry, last=None, now=utc("2026-03-02T02:00")) == [utc("2026-03-02T02:00")]


def test_an_entry_stored_at_a_tick_has_that_tick() -> None:
    """An entry that is stored exactly at a tick has that tick; one stored a microsecond later has not."""
    moment = utc("2026-03-01T02:00")
    assert ticks_due(nightly(at=moment), last=None, now=moment) == [moment]
    assert ticks_due(nightly(at=moment + MICROSECOND), last=None, now=moment + SECOND) == []


def test_an_entry_that_is_not_stored_has_nothing_due() -> None:
    """Only a stored entry ticks: before that, each process would count from its own start."""
    entry = cron_entry("Nightly", expression="* * * * *")
    assert ticks_due(entry, last=None, now=START) == []
    assert ticks_due(cron_entry("Nightly", interval=60), last=None, now=START) == []


def test_missed_ticks() -> None:
    """After five missed nights, skip fires none, once fires the latest and all fires each of them."""
    last, now = utc("2026-03-02T02:00"), utc("2026-03-07T12:00")
    nights = [utc(f"2026-03-0{day}T02:00") for day in range(3, 8)]
    assert ticks_due(nightly(missed="skip"), last=last, now=now) == []
    assert ticks_due(nightly(missed="once"), last=last, now=now) == nights[-1:]
    assert ticks_due(nightly(missed="all"), last=last, now=now) == nights


def test_skip_has_a_tolerance() -> None:
    """A tick that is a minute old is not missed; an older tick is skipped."""
    tick = utc("2026-03-03T02:00")
    entry = nightly(missed="skip")
    assert ticks_due(entry, last=tick - DAY, now=tick + TOLERANCE) == [tick]
    assert ticks_due(entry, last=tick - DAY, now=tick + TOLERANCE + MICROSECOND) == []


def test_once_is_the_default() -> None:
    """By default a restart that takes longer than the tolerance loses no tick."""
    assert cron_entry("x", expression="* * * * *").missed == "once"
    assert cron_entry("x", interval=60).missed == "once"


def test_all_is_bounded_and_resumable() -> None:
    """After a long pause, ticks are returned in batches of at most `limit`, each tick once."""
    entry = stored(cron_entry("Minutely", expression="* * * * *", missed="all"))
    now = START + timedelta(days=2)
    first = ticks_due(entry, last=None, now=now, limit=7)
    assert len(first) == 7
    cluster = Cluster(entry, limit=7)
    cluster.poll(now)
    assert cluster.fired == truth(entry, START, until=now)
    assert cluster.fired[:7] == first
    assert ticks_due(entry, last=None, now=now, limit=0) == []


def test_nothing_is_due_twice() -> None:
    """A fired tick is not due again, neither later nor after the clock was set back."""
    tick = utc("2026-03-03T02:00")
    for missed in ("skip", "once", "all"):
        entry = nightly(missed=missed)
        for now in (tick, tick + SECOND, tick - SECOND, tick - HOUR, tick - 10 * DAY):
            assert ticks_due(entry, last=tick, now=now) == []


def test_paused() -> None:
    """A paused entry has nothing due and no next tick."""
    entry = nightly(paused=True)
    assert ticks_due(entry, last=None, now=START + 9 * DAY) == []
    assert next_tick(entry, START) is None


def test_other_time_zones_change_nothing() -> None:
    """The same moments in another time zone give the same results, always in UTC."""
    there = timezone(timedelta(hours=-7))
    entry = nightly(missed="all", at=START.astimezone(there), since=START.astimezone(there))
    last, now = utc("2026-03-02T02:00"), utc("2026-03-04T12:00")
    due = ticks_due(entry, last=last.astimezone(there), now=now.astimezone(there))
    assert due == ticks_due(nightly(missed="all"), last=last, now=now)
    assert all(tick.tzinfo is UTC for tick in due)
    tick = next_tick(entry, now.astimezone(there))
    assert tick == utc("2026-03-05T02:00")
    assert tick.tzinfo is UTC


def test_naive_times_are_refused() -> None:
    """A datetime without a time zone is refused: it would be taken as local time."""
    naive = START.replace(tzinfo=None)
    with pytest.raises(ValueError, match="has no time zone"):
        next_tick(nightly(), naive)
    with pytest.raises(ValueError, match="has no time zone"):
        ticks_due(nightly(), last=naive, now=START)


# ------------------------------------------------------------------ intervals


def test_interval_ticks_at_once_and_then_in_step() -> None:
    """The first tick is the second in which the entry was stored; the others count from it."""
    entry = stored(cron_entry("Poll", interval=timedelta(minutes=10), missed="all"))
    begin = START.replace(microsecond=0)
    assert ticks_due(entry, last=None, now=START) == [begin]
    assert ticks_due(entry, last=begin, now=START + timedelta(minutes=9)) == []
    assert ticks_due(entry, last=begin, now=START + timedelta(minutes=25)) == [
        begin + timedelta(minutes=10),
        begin + timedelta(minutes=20),
    ]
    assert next_tick(entry, START - DAY) == begin


def test_interval_before_it_is_stored() -> None:
    """Without an anchor, the next tick of an interval is one interval away."""
    assert next_tick(cron_entry("Poll", interval=90), START) == START + timedelta(seconds=90)


def test_interval_with_a_last_tick_and_no_anchor() -> None:
    """An entry without an anchor counts from the last tick."""
    entry = cron_entry("Poll", interval=60, missed="all")
    assert ticks_due(entry, last=START, now=START + timedelta(seconds=125)) == [
        START + timedelta(seconds=60),
        START + timedelta(seconds=120),
    ]


@given(
    step=st.integers(1, 10**6),
    polls=st.lists(st.integers(1, 10**6), min_size=1, max_size=20),
    missed=st.sampled_from(["once", "all"]),
)
def test_intervals_never_drift(step: int, polls: list[int], missed: Any) -> None:
    """However late the polls are, ticks are whole intervals after the first."""
    entry = stored(cron_entry("Poll", interval=step, missed=missed))
    begin = START.replace(microsecond=0)
    cluster, now = Cluster(entry), START
    for wait in polls:
        # Short enough for at most a thousand ticks.
        now += timedelta(seconds=min(wait, step * 50)) + 3 * MICROSECOND
        cluster.poll(now)
    assert cluster.fired
    assert all((tick - begin) % timedelta(seconds=step) == timedelta(0) for tick in cluster.fired)
    if missed == "all":
        assert cluster.fired == truth(entry, START - DAY, until=now)


# ------------------------------------------------------------------ restarts, clocks, clock changes

ZONES = [
    ("Europe/Berlin", utc("2026-03-29T01:00")),
    ("Europe/Berlin", utc("2026-10-25T01:00")),
    ("America/New_York", utc("2026-03-08T07:00")),
    ("America/New_York", utc("2026-11-01T06:00")),
    ("Australia/Lord_Howe", utc("2026-10-03T15:30")),
    ("Australia/Lord_Howe", utc("2026-04-04T15:00")),
]
EXPRESSIONS = [
    "0 3 * * *",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "*/20 * * * *",
    "10 */2 * * *",
    "*/30 1,2 * * *",
    "0 0 * * 1",
    "0 45 1 * * *",
    "*/15 30 2 * * *",
    "@weekly",
]


@st.composite
def entries(draw: st.DrawFn, missed: Sequence[str] = ("skip", "once", "all")) -> tuple[CronEntry, datetime]:
    """Generate an entry that was stored two days before the clocks of its zone change."""
    zone, change = draw(st.sampled_from(ZONES))
    policy: Any = draw(st.sampled_from(missed))
    if draw(st.integers(0, 4)):
        entry = cron_entry("job", expression=draw(st.sampled_from(EXPRESSIONS)), timezone=zone, missed=policy)
    else:
        entry = cron_entry("job", interval=draw(st.integers(600, 10**5)), missed=policy)
    begin = change - 2 * DAY
    return stored(entry, at=begin), begin


def times(begin: datetime, *, limit: int = 12) -> st.SearchStrategy[list[datetime]]:
    """Generate moments of the four days after `begin`, in ascending order."""
    moment = st.integers(0, 4 * 86_400_000).map(lambda ms: begin + timedelta(milliseconds=ms))
    return st.lists(moment, min_size=1, max_size=limit).map(sorted)


@given(made=entries(), data=st.data())
def test_fired_ticks_ascend_and_belong_to_the_entry(
    made: tuple[CronEntry, datetime], data: st.DataObject
) -> None:
    """Whenever a process polls, fired ticks are due, belong to the entry, and strictly ascend."""
    entry, begin = made
    cluster = Cluster(entry)
    for now in data.draw(times(begin)):
        fired = cluster.poll(now)
        assert all(tick <= now for tick in fired)
        if entry.missed != "all":
            assert len(fired) <= 1
        if entry.missed == "skip":
            assert all(now - tick <= TOLERANCE for tick in fired)
    assert all(earlier < later for earlier, later in pairwise(cluster.fired))
    assert set(cluster.fired) <= set(truth(entry, begin - MICROSECOND, until=begin + 4 * DAY))


@given(made=entries(["all"]), data=st.data(), limit=st.integers(1, 50))
def test_all_is_the_same_however_it_is_split(
    made: tuple[CronEntry, datetime], data: st.DataObject, limit: int
) -> None:
    """However a period is split into polls and batches, each tick is fired once."""
    entry, begin = made
    polls = data.draw(times(begin))
    cluster = Cluster(entry, limit=limit)
    cluster.poll(*polls)
    assert cluster.fired == truth(entry, begin - MICROSECOND, until=polls[-1])


@given(made=entries(), data=st.data())
def test_policies_contain_each_other(made: tuple[CronEntry, datetime], data: st.DataObject) -> None:
    """The ticks of skip are among those of once, and those of once among those of all."""
    entry, begin = made
    now, last = data.draw(times(begin))[-1], data.draw(st.none() | times(begin).map(max))
    skip, once, each = (
        ticks_due(attrs.evolve(entry, missed=missed), last=last, now=now, limit=10**6)
        for missed in ("skip", "once", "all")
    )
    assert set(skip) <= set(once) <= set(each)
    assert once == each[-1:]


@settings(max_examples=settings().max_examples // 4)
@given(made=entries(), data=st.data())
def test_restarts_inside_an_interval(made: tuple[CronEntry, datetime], data: st.DataObject) -> None:
    """Under each policy a tick is fired when a process polls soon after it; other polls change nothing."""
    entry, begin = made
    ticks = truth(entry, begin - MICROSECOND, until=begin + 4 * DAY)
    polls = sorted([*data.draw(times(begin)), *(tick + timedelta(seconds=0.3) for tick in ticks)])
    cluster = Cluster(entry)
    for now in polls:
        # A restart: only what is stored is known, and it is read back unchanged.
        spec = json.loads(json.dumps(cluster.entry.spec()))
        cluster.entry = CronEntry.from_spec(entry.name, spec, anchor=entry.anchor)
        cluster.poll(now)
    assert cluster.fired == [tick for tick in ticks if tick <= polls[-1]]


@given(made=entries(), data=st.data())
def test_wall_clock_steps(made: tuple[CronEntry, datetime], data: st.DataObject) -> None:
    """A clock that jumps an hour either way repeats no tick, and with `all` loses none."""
    entry, begin = made
    steps = st.lists(st.sampled_from([-HOUR, timedelta(0), HOUR]), min_size=12, max_size=12)
    polls = [now + step for now, step in zip(data.draw(times(begin)), data.draw(steps), strict=False)]
    cluster = Cluster(entry)
    cluster.poll(*polls)
    assert all(earlier < later for earlier, later in pairwise(cluster.fired))
    if entry.missed == "all":
        assert cluster.fired == truth(entry, begin - MICROSECOND, until=max([*polls, begin - DAY]))


@pytest.mark.parametrize("missed", ["once", "all"])
def test_weekly_entry_in_a_process_that_restarts_daily(missed: Any) -> None:
    """A weekly entry fires once a week, even if its process restarts every day."""
    entry = stored(cron_entry("Weekly", expression="0 12 * * MON", missed=missed))
    cluster = Cluster(entry)
    cluster.poll(*(START + n * DAY + timedelta(seconds=n) for n in range(28)))
    assert [tick.isoformat()[:16] for tick in cluster.fired] == [
        "2026-03-02T12:00",
        "2026-03-09T12:00",
        "2026-03-16T12:00",
        "2026-03-23T12:00",
    ]


def test_a_next_tick_in_the_past_is_not_there() -> None:
    """The next tick is later than the given moment, however old the entry is."""
    entry = nightly(at=utc("2020-01-01T00:00"))
    assert next_tick(entry, utc("2026-03-01T12:00")) == utc("2026-03-02T02:00")
    assert next_tick(entry, utc("2019-01-01T00:00")) == utc("2020-01-01T02:00")


def test_night_of_the_change() -> None:
    """A job at half past two in Berlin runs once a night, when the clocks go forward and when they go back."""
    entry = stored(cron_entry("Nightly", expression="30 2 * * *", timezone="Europe/Berlin", missed="all"))
    for first, expected in (
        ("2026-03-27T12:00", ["28T01:30", "29T01:00", "30T00:30"]),
        ("2026-10-23T12:00", ["24T00:30", "25T00:30", "26T01:30"]),
    ):
        due = ticks_due(entry, last=utc(first), now=utc(first) + 3 * DAY)
        assert [tick.isoformat()[8:16] for tick in due] == expected


# ------------------------------------------------------------------ change and pause at run time


def test_ticks_of_a_pause_are_never_due() -> None:
    """Ticks from the time when an entry was paused are not missed ticks."""
    entry = nightly(missed="all", paused=True)
    resumed = edit(entry, now=utc("2026-03-05T12:00"), paused=False)
    assert ticks_due(resumed, last=utc("2026-03-02T02:00"), now=utc("2026-03-06T12:00")) == [
        utc("2026-03-06T02:00")
    ]
    assert edit(nightly(), now=START, paused=True).since is None


@pytest.mark.parametrize(
    "changes",
    [
        {"expression": "0 5 * * *"},
        {"timezone": "UTC"},
        {"missed": "all"},
        {"expression": None, "interval": 60},
    ],
    ids=["expression", "timezone", "missed", "interval"],
)
def test_a_new_schedule_counts_from_its_change(changes: dict[str, Any]) -> None:
    """A changed schedule has no ticks before the change: moving a job from 3:00 to 5:00 at noon runs nothing."""
    now = utc("2026-03-05T12:00:00.5")
    entry = edit(nightly(), now=now, **changes)
    assert ticks_due(entry, last=utc("2026-03-02T02:00"), now=now) == []
    tick = next_tick(entry, utc("2026-03-01T00:00"))
    assert tick is not None
    assert tick > now


def test_other_changes_leave_the_ticks_alone() -> None:
    """A new payload, new options or another spelling of the same schedule leave a due tick due."""
    changed = edit(
        nightly(), now=START + 9 * DAY, args={"x": 1}, options={"queue": "q"}, expression="0  3 * * *"
    )
    assert changed.since is None
    assert ticks_due(changed, last=START, now=START + 9 * DAY)


def test_interval_changed_at_run_time_stays_aligned() -> None:
    """A changed interval counts from the same anchor, and starts with its next tick."""
    now = START.replace(microsecond=0) + timedelta(minutes=25)
    entry = edit(stored(cron_entry("Poll", interval=600)), now=now, interval=420)
    assert next_tick(entry, now) == START.replace(microsecond=0) + timedelta(minutes=28)


def test_bad_change_is_refused() -> None:
    """An invalid change is refused; the message names the entry."""
    with pytest.raises(
        InvalidSetting, match=r"cron entry 'Nightly\[0 3 \* \* \* Europe/Berlin\]': hour '25'"
    ):
        edit(nightly(), now=START, expression="0 25 * * *")


def test_first_declaration() -> None:
    """A new entry is stored as declared, with the fingerprint of the declaration."""
    declared = cron_entry("Nightly", expression="0 3 * * *")
    entry = reconcile(declared, None, now=START)
    assert entry == attrs.evolve(declared, declared=declared.fingerprint)


def test_restart_keeps_what_was_changed_at_run_time() -> None:
    """The same declaration changes nothing, even after the entry was changed at run time."""
    declared = cron_entry("Nightly", expression="0 3 * * *", args={"x": (1, 2)})
    first = stored(reconcile(declared, None, now=START))
    assert reconcile(declared, first, now=START + DAY) == first
    changed = edit(first, now=START + DAY, expression="0 5 * * *", paused=True)
    assert reconcile(declared, changed, now=START + 2 * DAY) == changed


def test_a_changed_declaration_replaces_the_entry() -> None:
    """A changed declaration replaces the stored entry, but not its pause; a new schedule starts now."""
    first = stored(
        reconcile(cron_entry("Nightly", expression="0 3 * * *", name="n"), None, now=START), paused=True
    )
    now = START + 5 * DAY
    later = reconcile(cron_entry("Nightly", expression="0 5 * * *", name="n"), first, now=now)
    assert (later.expression, later.since, later.paused, later.anchor) == ("0 5 * * *", now, True, START)
    payload = reconcile(
        cron_entry("Nightly", expression="0 3 * * *", name="n", args={"x": 1}), first, now=now
    )
    assert (payload.args, payload.since) == ({"x": 1}, None)


def test_a_declaration_takes_over_an_entry_made_at_run_time() -> None:
    """An entry that was created at run time under the same name is then owned by the code."""
    made = stored(cron_entry("Nightly", expression="0 3 * * *", name="n"))
    assert made.declared is None
    assert (
        reconcile(cron_entry("Nightly", expression="0 3 * * *", name="n"), made, now=START).declared
        is not None
    )


def test_orphans() -> None:
    """An entry that code no longer declares is orphaned; one created at run time never is."""
    entry = reconcile(cron_entry("Nightly", expression="0 3 * * *"), None, now=START)
    assert not orphaned(entry, {entry.name: 1})
    assert orphaned(entry, {cron_entry("Nightly", expression="0 4 * * *").name})
    assert not orphaned(cron_entry("Nightly", expression="0 3 * * *"), ())


# ------------------------------------------------------------------ names and storage


def test_default_names() -> None:
    """A default name consists of job, schedule and payload, so entries of one job have different names."""
    names = [
        cron_entry("N", expression="0 3 * * *").name,
        cron_entry("N", expression=" 0  3 * * * ", timezone=ZoneInfo("Europe/Berlin")).name,
        cron_entry("N", expression="@daily").name,
        cron_entry("N", interval=timedelta(hours=1, minutes=30)).name,
        cron_entry("N", expression="0 3 * * *", args={"b": 1, "a": [2]}).name,
        cron_entry("N", expression="0 3 * * *", args={"a": [2], "b": 1}).name,
        cron_entry("N", expression="0 3 * * *", args={"a": [3], "b": 1}).name,
        cron_entry("N", expression="0 3 * * *", name="mine").name,
    ]
    assert names[:4] == ["N[0 3 * * *]", "N[0 3 * * * Europe/Berlin]", "N[@daily]", "N[every 1:30:00]"]
    assert names[4] == names[5] == "N[0 3 * * *]#" + names[4][-8:]
    assert names[6] not in {names[0], names[4]}
    assert names[7] == "mine"


def test_names_are_the_same_at_every_start() -> None:
    """Unlike Python's hashes, a default name is the same in every process and version."""
    assert cron_entry("N", expression="@daily", args={"b": "é", "a": [1]}).name == "N[@daily]#add9ecf5"
    assert cron_entry("N", expression="@daily").fingerprint == "175f49c5d3c01230"
    assert edit(cron_entry("N", expression="@daily"), now=START, missed="all").since == START
    assert (
        edit(cron_entry("N", expression="@daily"), now=START, missed="all").fingerprint
        == cron_entry("N", expression="@daily", missed="all").fingerprint
    )


@given(made=entries(), since=st.none() | st.datetimes(timezones=st.just(UTC)), declared=st.none() | st.text())
def test_spec_round_trip(
    made: tuple[CronEntry, datetime], since: datetime | None, declared: str | None
) -> None:
    """A stored entry is read back equal, through JSON, with name, pause and anchor in columns of their own."""
    entry = attrs.evolve(
        made[0], since=since, declared=declared, args={"a": [1, None]}, options={"priority": 3}
    )
    spec = json.loads(json.dumps(entry.spec()))
    assert CronEntry.from_spec(entry.name, spec, anchor=entry.anchor) == entry
    assert CronEntry.from_spec(entry.name, spec, paused=True).paused


def test_payload_is_a_plain_copy() -> None:
    """The payload is a copy, and equal to what is read back from the database."""
    args: dict[str, Any] = {"sizes": (1, 2)}
    entry = cron_entry("N", expression="@daily", args=args)
    args["sizes"] = None
    assert entry.args == {"sizes": [1, 2]}


def test_spec_of_a_newer_version() -> None:
    """A key that this version does not know is ignored."""
    spec = cron_entry("N", expression="@daily").spec() | {"colour": "red"}
    assert CronEntry.from_spec("n", spec).expression == "@daily"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"job": "N"},
        {"job": "N", "expression": ["*"]},
        {"job": "N", "interval": "often"},
        {"job": "N", "interval": 1e400},
        {"job": "N", "expression": "@daily", "since": "yesterday"},
        {"job": "N", "expression": "@daily", "since": 5},
        {"job": "N", "expression": "@daily", "since": "2026-01-01T00:00"},
        {"job": "N", "expression": "@daily", "args": 5},
        {"job": "N", "expression": "61 * * * *"},
        {"job": 5, "expression": "@daily"},
    ],
    ids=range(11),
)
def test_bad_row(spec: dict[str, Any]) -> None:
    """A stored entry with invalid fields is refused by name; other entries are not affected."""
    with pytest.raises(InvalidSetting, match=r"^cron entry 'bad'"):
        CronEntry.from_spec("bad", spec)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expression": "0 3 * * 9"}, "cron entry 'mine': day of week '9' in '0 3 * * 9'"),
        ({"expression": "0 0 30 2 *"}, "cron entry 'mine': '0 0 30 2 *' never matches in UTC"),
        ({"timezone": "Nowhere/Land"}, "cron entry 'mine': timezone 'Nowhere/Land' is unknown"),
        ({"missed": "none"}, "cron entry 'mine': missed is 'none': use 'skip', 'once' or 'all'"),
        ({"expression": None}, "cron entry 'mine': use either a cron expression or an interval"),
        ({"expression": 5}, "cron entry 'mine': expression is 5: use a string"),
        ({"name": "x" * 1001}, "name is 'xxx"),
        ({"job": ""}, "job is '': use a string"),
        ({"options": {}, "job": "", "expression": ""}, "job is ''"),
    ],
    ids=range(9),
)
def test_bad_entries(values: dict[str, Any], message: str) -> None:
    """An invalid entry is refused; the message names the entry, the field and the remedy."""
    given: dict[str, Any] = {"expression": "@daily", "job": "N", "name": "mine"} | values
    with pytest.raises(InvalidSetting) as refused:
        cron_entry(given.pop("job"), **given)
    assert message in str(refused.value)


def test_entry_without_a_name_is_named_by_its_job() -> None:
    """An entry without a name is called by its job in the message."""
    with pytest.raises(InvalidSetting, match=r"^cron entry 'Nightly': minute '99'"):
        cron_entry("Nightly", expression="99 * * * *")


@pytest.mark.parametrize(
    "interval",
    [0, 0.5, -60, float("nan"), float("inf"), timedelta(0), timedelta.max, 10**30, "1h", None],
    ids=repr,
)
def test_bad_intervals(interval: Any) -> None:
    """An interval shorter than a second, longer than a century, or of a wrong type is refused."""
    with pytest.raises(InvalidSetting, match=r"cron entry 'Poll': (interval is|use either a cron)"):
        cron_entry("Poll", interval=interval)


@pytest.mark.parametrize(
    "args", [{"x": object()}, {"x": float("nan")}, {"x": {1, 2}}], ids=["object", "nan", "set"]
)
def test_payload_must_be_json(args: dict[str, Any]) -> None:
    """A payload that is not JSON is refused before any I/O; the message names the job or the entry."""
    with pytest.raises(InvalidJob, match="cron job 'N': args must be JSON"):
        cron_entry("N", expression="@daily", args=args)
    with pytest.raises(InvalidJob, match="cron job 'N': options must be JSON"):
        cron_entry("N", interval=60, options=args)
    with pytest.raises(InvalidJob, match="cron entry 'n': args and options must be JSON"):
        CronEntry(name="n", job="N", expression="@daily", args=args)
