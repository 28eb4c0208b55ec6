"""Tests of the counts for metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import jobrt
from jobrt import End, events
from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._core.states import Transition
from jobrt._runtime.messages import Report
from jobrt._runtime.tally import _COUNTED, _LABELS_LIMIT, BOUNDS, Tally
from jobrt.probes.families import _EVENTS
from jobrt.testing import drain, open_app

DUE = datetime(2030, 1, 1, tzinfo=UTC)


class Nap(jobrt.Job):
    """Job that takes some time, and may fail."""

    seconds: float = 0.0
    fails: bool = False
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        await trio.sleep(self.seconds)
        if self.fails:
            raise LookupError("no")


def report(
    end: End | None = End.FINISHED,
    *,
    seconds: float = 0.0,
    began: float | None = None,
    started: float | None = None,
    number: int = 1,
) -> Report:
    """Return the report of an attempt that began, or was claimed, so many seconds after it was due."""
    claimed_at = None if started is None else DUE + timedelta(seconds=started)
    job = Claimed(number, 7, "Nap", "mail", 0, 1, 5, None, "{}", "{}", (), None, DUE, DUE, claimed_at)
    at = None if began is None else int((DUE.timestamp() + began) * 1e6)
    return Report(Outcome(number, 7, Transition.COMPLETE, end, began=at), job, seconds)


async def test_nothing_is_counted_before_somebody_asks(autojump_clock: MockClock) -> None:
    """Afterwards each attempt is: by its end, with its run time and its wait."""
    async with open_app(jobs=[Nap]) as (app, jobs):
        await jobs.enqueue(Nap())
        await drain(app)
        tally = app.measure()
        assert not tally.series
        assert app.measure() is tally
        await jobs.enqueue_many([Nap(3), Nap(3), Nap(0, fails=True)])
        await trio.sleep(20)
        await drain(app)
    entry = tally.series["Nap", "default"]
    assert entry.attempts() == {"finished": 2, "failed": 1}
    assert (sum(entry.runs), sum(entry.waits)) == (3, 3)
    assert entry.runs[BOUNDS.index(5)] == 2
    assert entry.run_seconds == pytest.approx(6)
    assert entry.wait_seconds == pytest.approx(60, abs=1)


async def test_a_copy_of_an_app_counts_for_itself(autojump_clock: MockClock) -> None:
    """The other app's workers are not its own."""
    async with open_app(jobs=[Nap]) as (app, jobs):
        tally = app.at("sqlite:///:memory:").measure()
        await jobs.enqueue(Nap())
        await drain(app)
    assert not tally.series


def test_an_outcome_that_was_refused_is_a_lost_lease() -> None:
    """The others of the same batch keep their end; jobs that never started are no attempts."""
    tally = Tally()
    tally.note([report(number=1), report(number=2), report(None, number=3)], lost={JobRef(2, 7)})
    assert tally.series["Nap", "mail"].attempts() == {"finished": 1, "lease_lost": 1}


def test_the_wait_ends_when_the_job_begins() -> None:
    """That is its claim, unless it was claimed ahead. A clock that steps back gives no negative waits."""
    tally = Tally()
    tally.note([report(started=2.0), report(started=2.0, began=4.0), report(began=-1.0), report()])
    entry = tally.series["Nap", "mail"]
    assert entry.wait_seconds == pytest.approx(6.0)
    assert sum(entry.waits) == 3


@given(st.lists(st.floats(0, 1e6)))
def test_each_time_is_in_the_bucket_of_the_first_bound_above_it(times: list[float]) -> None:
    """A time that equals a bound is not above it, as Prometheus wants it."""
    tally = Tally()
    tally.note([report(seconds=seconds) for seconds in times] or [report()])
    runs = tally.series["Nap", "mail"].runs
    for index, bound in enumerate(BOUNDS):
        assert sum(runs[: index + 1]) == sum(seconds <= bound for seconds in times or [0.0])


def test_events_are_counted_by_their_labels() -> None:
    """Other events are not counted, and pruned jobs are counted, not their prunes."""
    tally = Tally()
    for event in (
        events.JobCancelPhase(1, "Nap", "received", ""),
        events.JobCancelPhase(2, "Nap", "received", ""),
        events.JobsPruned(5),
        events.WorkerStarted("one", ()),
    ):
        tally(event)
    assert tally.events == {events.JobCancelPhase: {("Nap", "received"): 2}, events.JobsPruned: {(): 5}}


def test_labels_from_the_database_are_of_a_limited_number() -> None:
    """Beyond it, they are counted together."""
    tally = Tally()
    for number in range(_LABELS_LIMIT + 5):
        tally(events.JobRescued(number, "Nap", f"queue {number}", "dead", jobrt.State.RETRYABLE))
    counts = tally.events[events.JobRescued]
    assert len(counts) == _LABELS_LIMIT + 1
    assert counts["(others)", "(others)"] == 5


def test_each_counted_event_is_a_metric() -> None:
    """With as many labels as it is counted by."""
    assert {kind.__name__: len(fields) for kind, fields in _COUNTED.items()} == {
        name: len(labels) for name, (_, _, labels) in _EVENTS.items()
    }
