"""Turn events into log lines that an operator understands: the one source of jobrt's logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import attrs

from jobrt import events as e
from jobrt._core.states import End, State

__all__ = ["JsonFormatter", "describe", "log", "log_event"]

logger: logging.Logger = logging.getLogger("jobrt")

_QUIET_ENDS = {End.FINISHED, End.SNOOZED}

_WORDS: dict[type[e.Event], tuple[int, str]] = {
    e.ActorRestarted: (
        logging.ERROR,
        "{0.supervisor}: {0.child} failed ({0.error}), starts again in {0.delay:.1f} s",
    ),
    e.CronFailed: (logging.ERROR, "cron {0.name}: {0.error}"),
    e.CronFired: (logging.DEBUG, "cron {0.name}: tick {0.tick} enqueued job {0.job_id}"),
    e.JobCancelPhase: (logging.INFO, "{0.name} {0.id}: cancel {0.phase}: {0.reason}"),
    e.JobRescued: (logging.WARNING, "{0.name} {0.id}: worker {0.worker} is dead; the job is {0.state}"),
    e.JobStarted: (logging.DEBUG, "{0.name} {0.id}: attempt {0.attempt} begins"),
    e.JobStuck: (logging.WARNING, "{0.name} {0.id} is stuck ({0.why}, {0.seconds:.0f} s):\n{0.stack}"),
    e.JobsClaimed: (logging.DEBUG, "queue {0.queue}: claimed {0.count} of {0.asked}"),
    e.JobsPruned: (logging.INFO, "pruned {0.count} jobs"),
    e.NotifierDisconnected: (logging.WARNING, "no wake-ups, polling goes on: {0.error}"),
    e.OutcomeLost: (logging.ERROR, "{0.name} {0.id}: its outcome cannot be written: {0.error}"),
    e.OutcomeRefused: (
        logging.WARNING,
        "{0.name} {0.id}: its outcome ({0.end}) was refused, another worker owns it now",
    ),
    e.QueueStalled: (
        logging.ERROR,
        "queue {0.queue}: {0.due} due, {0.free} free slots, no claim; restarted",
    ),
    e.StorageDown: (logging.ERROR, "the database cannot be used: {0.error}"),
    e.StorageUp: (logging.INFO, "the database is back after {0.seconds:.1f} s"),
    e.WorkerFenced: (
        logging.ERROR,
        "worker {0.worker} was away for {0.seconds:.1f} s: it cancelled its own jobs",
    ),
    e.WorkerStopped: (logging.INFO, "worker {0.worker} has stopped"),
    e.WorkerStopping: (
        logging.INFO,
        "worker {0.worker} is stopping: {0.running} jobs have {0.grace:g} s to end",
    ),
}
"""Level and words of the events that are told in one way; `str.format` gets the event."""


def log_event(event: e.Event) -> None:
    """Log an event; subscribe it with ``app.events.subscribed(log_event)``. An idle worker's events log nothing."""
    log(event)


def log(event: e.Event, *, more: str = "") -> None:
    """Log an event, with something added to its words."""
    level, text = describe(event)
    if logger.isEnabledFor(level):
        said = text + more
        logger.log(level, said, extra={"event": type(event).__name__, "fields": attrs.asdict(event)})


def describe(event: e.Event) -> tuple[int, str]:
    """Return the level and the words for an event."""
    match event:
        case e.JobEnded():
            return _describe_end(event)
        case e.JobEnqueued():
            return logging.DEBUG, f"{event.name}: {len(event.ids)} enqueued in {event.queue}"
        case e.QueuePaused():
            return logging.INFO, f"queue {event.queue}: {'paused' if event.paused else 'resumed'}"
        case e.WorkerStarted():
            serving = ", ".join(event.queues) or "nothing"
            return logging.INFO, f"worker {event.worker} is up, serving {serving}"
        case e.WorkerStopped(error=error) if error:
            said = f"worker {event.worker} has stopped, but could not leave everything in order: {error}"
            return logging.WARNING, said
        case _:
            level, words = _WORDS.get(type(event), (logging.INFO, "{0!r}"))
            return level, words.format(event)


def _describe_end(event: e.JobEnded) -> tuple[int, str]:
    said = f"{event.name} {event.id}: attempt {event.attempt} {event.end} after {event.seconds:.3f} s, {event.state}"
    if event.error_type or event.message:
        said += f": {event.error_type + ': ' if event.error_type else ''}{event.message}"
    if event.end in _QUIET_ENDS:
        return logging.DEBUG, said
    return logging.ERROR if event.state is State.DISCARDED else logging.WARNING, said


class JsonFormatter(logging.Formatter):
    """Format each record as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if "event" in record.__dict__:
            # An event's own `message`, an error's, is in the words already; it does not take their place.
            fields = {"event": record.__dict__["event"], **record.__dict__.get("fields", {})}
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
