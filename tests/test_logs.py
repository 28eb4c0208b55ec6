"""What an operator reads: each event has words and a level of its own, and a line of JSON if that is wanted."""

from __future__ import annotations

import json
import logging

import attrs
import pytest

from jobrt import events as e
from jobrt._core.states import End, State
from jobrt.logs import JsonFormatter, describe, log_event
from tests.test_events import table

_DONE = e.JobEnded(1, "send", "mail", 2, End.FINISHED, State.COMPLETED, 0.5)

SAID: list[tuple[e.Event, int, str]] = [
    (_DONE, logging.DEBUG, "send 1: attempt 2 finished after 0.500 s, completed"),
    (
        attrs.evolve(_DONE, end=End.FAILED, state=State.RETRYABLE, error_type="OSError", message="no"),
        logging.WARNING,
        "send 1: attempt 2 failed after 0.500 s, retryable: OSError: no",
    ),
    (
        attrs.evolve(_DONE, end=End.TIMED_OUT, state=State.DISCARDED, message="too slow"),
        logging.ERROR,
        "discarded: too slow",
    ),
    (e.JobStarted(1, "send", "mail", 2, 9), logging.DEBUG, "attempt 2 begins"),
    (e.JobsClaimed("mail", 10, 3), logging.DEBUG, "claimed 3 of 10"),
    (e.JobEnqueued("send", "mail", (1, 2)), logging.DEBUG, "2 enqueued in mail"),
    (e.OutcomeLost(1, "send", 9, End.FINISHED, "no"), logging.ERROR, "its outcome cannot be written: no"),
    (e.OutcomeRefused(1, "send", 9, End.FINISHED), logging.WARNING, "another worker owns it now"),
    (e.JobRescued(1, "send", "mail", "w1", State.RETRYABLE), logging.WARNING, "worker w1 is dead"),
    (e.JobStuck(1, "send", "blocking", 7.4, "at home"), logging.WARNING, "stuck (blocking, 7 s):\nat home"),
    (e.JobCancelPhase(1, "send", "received", "no"), logging.INFO, "cancel received: no"),
    (e.QueueStalled("mail", 5, 2), logging.ERROR, "5 due, 2 free slots"),
    (e.QueuePaused("mail", paused=True), logging.INFO, "queue mail: paused"),
    (e.QueuePaused("mail", paused=False), logging.INFO, "queue mail: resumed"),
    (e.StorageDown("gone"), logging.ERROR, "the database cannot be used: gone"),
    (e.StorageUp(2.04), logging.INFO, "after 2.0 s"),
    (e.CronFired("nightly", "03:00", 4), logging.DEBUG, "tick 03:00 enqueued job 4"),
    (e.CronFailed("nightly", "no such job"), logging.ERROR, "cron nightly: no such job"),
    (e.JobsPruned(3), logging.INFO, "pruned 3 jobs"),
    (e.WorkerStarted("w1", ("a", "b")), logging.INFO, "serving a, b"),
    (e.WorkerStarted("w1", ()), logging.INFO, "serving nothing"),
    (e.WorkerStopping("w1", 30.0, 2), logging.INFO, "2 jobs have 30 s to end"),
    (e.WorkerStopped("w1"), logging.INFO, "has stopped"),
    (e.WorkerStopped("w1", "no rights"), logging.WARNING, "everything in order: no rights"),
    (e.WorkerFenced("w1", 31.0), logging.ERROR, "away for 31.0 s"),
    (e.ActorRestarted("worker", "cron", "boom", 0.5, 1), logging.ERROR, "cron failed (boom), starts again in 0.5 s"),
    (e.NotifierDisconnected("gone"), logging.WARNING, "polling goes on: gone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "level", "words"), SAID, ids=[f"{n}-{type(one[0]).__name__}" for n, one in enumerate(SAID)]
)
def test_events_are_told(event: e.Event, level: int, words: str) -> None:
    """Level and words of each."""
    assert describe(event)[0] == level
    assert words in describe(event)[1]


def test_no_event_is_left_to_its_repr() -> None:
    """Every event of the contract has words; one that somebody adds is shown as it is, and not lost."""
    told = {type(one[0]).__name__ for one in SAID}
    assert told == set(e.__all__) - {"EventBus", "Event", "Subscriber"}

    @attrs.frozen
    class New(e.Event):
        number: int

    assert describe(New(3)) == (logging.INFO, repr(New(3)))


def test_the_table_names_the_levels() -> None:
    """Each event is logged at the levels that the table of events names for it, and at no others."""
    found: dict[str, set[str]] = {}
    for event, level, _ in SAID:
        found.setdefault(type(event).__name__, set()).add(logging.getLevelName(level))
    assert {name: set(levels.split(", ")) for name, _, levels in table()} == found


def test_a_line_of_json_has_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    """The words for people, the event's fields for programs, a traceback if there is one."""
    caplog.set_level(logging.DEBUG, "jobrt")
    log_event(_DONE)
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["level"], line["event"], line["id"], line["end"]) == ("debug", "JobEnded", 1, "finished")
    assert line["message"] == describe(_DONE)[1]
    error = OSError("no")
    record = logging.LogRecord(
        "jobrt", logging.ERROR, __file__, 1, "%s failed", ("it",), (OSError, error, None)
    )
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "it failed"
    assert line["traceback"].endswith("OSError: no")
