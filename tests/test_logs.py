"""Tests of log messages: each event has a level and a message, as text or as JSON."""

from __future__ import annotations

import json
import logging

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt import events as e
from jobrt._core.escape import printable
from jobrt._core.states import End, State
from jobrt.logs import JsonFormatter, TextFormatter, describe, log_event
from tests.test_events import table

_DONE = e.JobEnded(1, "send", "mail", 2, End.FINISHED, State.COMPLETED, 0.5)

MESSAGES: list[tuple[e.Event, int, str]] = [
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
    (e.JobStarted(1, "send", "mail", 2, 9), logging.DEBUG, "attempt 2 started"),
    (e.JobsClaimed("mail", 10, 3), logging.DEBUG, "claimed 3 of 10"),
    (e.JobEnqueued("send", "mail", (1, 2)), logging.DEBUG, "2 enqueued in mail"),
    (e.OutcomeLost(1, "send", 9, End.FINISHED, "no"), logging.ERROR, "cannot write the outcome: no"),
    (e.OutcomeRefused(1, "send", 9, End.FINISHED), logging.WARNING, "was refused: the lease was lost"),
    (e.JobRescued(1, "send", "mail", "w1", State.RETRYABLE), logging.WARNING, "worker w1 is dead"),
    (
        e.JobSetAside(1, "rescue", "value too long"),
        logging.WARNING,
        "job 1: the database refuses to rescue it (value too long); it is left aside for a minute",
    ),
    (
        e.JobNotBegun(1, "send", "shop.timed", "failed"),
        logging.ERROR,
        "hook shop.timed failed; send 1 is given back, no attempt is used",
    ),
    (e.JobStuck(1, "send", "blocking", 7.4, "at home"), logging.WARNING, "send 1 is stuck (blocking, 7 s)"),
    (e.JobCancelPhase(1, "send", "received", "no"), logging.INFO, "cancel received: no"),
    (e.QueueStalled("mail", 5, 2), logging.ERROR, "5 due jobs and 2 free slots but no claim"),
    (e.QueuePaused("mail", paused=True), logging.INFO, "queue mail: paused"),
    (e.QueuePaused("mail", paused=False), logging.INFO, "queue mail: resumed"),
    (e.StorageDown("gone"), logging.ERROR, "the database cannot be used: gone"),
    (e.StorageUp(2.04), logging.INFO, "after 2.0 s"),
    (e.CronFired("nightly", "03:00", 4), logging.DEBUG, "tick 03:00 enqueued job 4"),
    (e.CronFailed("nightly", "no such job"), logging.ERROR, "cron nightly: no such job"),
    (e.JobsPruned(3), logging.INFO, "pruned 3 jobs"),
    (e.WorkerStarted("w1", ("a", "b")), logging.INFO, "serving a, b"),
    (e.WorkerStarted("w1", ()), logging.INFO, "serving no queues"),
    (e.WorkerStopping("w1", 30.0, 2), logging.INFO, "running jobs: 2, grace period: 30 s"),
    (e.WorkerStopped("w1"), logging.INFO, "has stopped"),
    (e.WorkerStopped("w1", "no rights"), logging.WARNING, "its shutdown was incomplete: no rights"),
    (e.WorkerStopped("w1", threads=("a", "b")), logging.WARNING, "are still running: a, b"),
    (e.WorkerFenced("w1", 31.0), logging.ERROR, "could not renew its lease for 31.0 s"),
    (e.ActorRestarted("worker", "cron", "boom", 0.5, 1), logging.ERROR, "cron failed (boom), restarting in 0.5 s"),
    (e.NotifierDisconnected("gone"), logging.WARNING, "polling instead: gone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "level", "message"),
    MESSAGES,
    ids=[f"{number}-{type(event).__name__}" for number, (event, _, _) in enumerate(MESSAGES)],
)
def test_events_have_messages(event: e.Event, level: int, message: str) -> None:
    """Each event has a log level and a message."""
    assert describe(event)[0] == level
    assert message in describe(event)[1]


def test_no_event_is_left_to_its_repr() -> None:
    """Every public event has a message. An event without a message is logged as its repr."""
    tested = {type(event).__name__ for event, _, _ in MESSAGES}
    assert tested == set(e.__all__) - {"EventBus", "Event", "Subscriber"}

    @attrs.frozen
    class New(e.Event):
        number: int

    assert describe(New(3)) == (logging.INFO, repr(New(3)))


def test_the_table_names_the_levels() -> None:
    """Each event is logged at the levels that the table of events names for it, and at no others."""
    found: dict[str, set[str]] = {}
    for event, level, _ in MESSAGES:
        found.setdefault(type(event).__name__, set()).add(logging.getLevelName(level))
    assert {name: set(levels.split(", ")) for name, _, levels in table()} == found


def test_a_line_of_json_has_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    """A JSON line contains the message, the event's fields and the traceback of an error."""
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


TEXTS = st.text(st.characters(codec=None)) | st.just(
    "\x1b]0;t\x07\r\n2026-01-01 00:00:00,000 INFO forged \udc80"
)


@given(event=st.sampled_from([event for event, _, _ in MESSAGES]), text=TEXTS)
def test_a_message_is_one_printable_line(event: e.Event, text: str) -> None:
    """Whatever stands in the texts of an event, its message is safe for every formatter."""
    texts = {
        field.name: text for field in attrs.fields(type(event)) if type(getattr(event, field.name)) is str
    }
    _, message = describe(attrs.evolve(event, **texts))
    assert message == printable(message)


@given(TEXTS, TEXTS, TEXTS)
def test_a_text_record_is_one_line_and_indented_ones(name: str, message: str, error: str) -> None:
    """A message or an error of several lines cannot forge a record, and no control character is written."""
    raised = ValueError, ValueError(error), None
    record = logging.LogRecord(name, logging.INFO, __file__, 1, "%s", (message,), raised, sinfo=message)
    first, *others = TextFormatter().format(record).split("\n")
    assert f" INFO {printable(name)}: " in first
    assert all(line.startswith("    ") and line == printable(line) for line in others)


def test_a_failed_attempt_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Any formatter appends it, indented and without control characters. JSON has it as it is."""
    trace = "Traceback (most recent call last):\n  File \x1b[2J\nValueError: a\nb"
    failed = attrs.evolve(_DONE, end=End.FAILED, error_type="ValueError", message="a\nb", traceback=trace)
    log_event(failed)
    (record,) = caplog.records
    indented = "    Traceback (most recent call last):\n      File \\x1b[2J\n    ValueError: a\n    b"
    assert logging.Formatter("%(message)s").format(record) == f"{describe(failed)[1]}\n{indented}"
    assert TextFormatter().format(record).endswith(f"{describe(failed)[1]}\n{indented}")
    assert json.loads(JsonFormatter().format(record))["traceback"] == trace


def test_records_of_other_loggers_are_shown_with_their_name() -> None:
    """A program's own records appear beside those of jobrt, also those that another handler has formatted."""
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "sold %d", (3,), None)
    record.exc_text = "Traceback:\nforged"
    assert TextFormatter().format(record).endswith(" INFO shop: sold 3\n    Traceback:\n    forged")
    line = json.loads(JsonFormatter().format(record))
    assert (line["logger"], line["message"]) == ("shop", "sold 3")
