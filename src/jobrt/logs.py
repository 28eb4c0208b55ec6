"""Turn events into log lines that an operator understands: the one source of jobrt's logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import attrs

from jobrt import _events as e
from jobrt._core.states import End, State

__all__ = ["JsonFormatter", "describe", "log", "log_event"]

logger: logging.Logger = logging.getLogger("jobrt")

_QUIET_ENDS = {End.FINISHED, End.SNOOZED}


def log_event(event: e.Event) -> None:
    """Log an event; subscribe it with ``app.events.subscribed(log_event)``. An idle worker's events log nothing."""
    log(event)


def log(event: e.Event, *, more: str = "") -> None:
    """Log an event, with something added to its words."""
    level, text = describe(event)
    if logger.isEnabledFor(level):
        said = text + more
        logger.log(level, said, extra={"event": type(event).__name__, "fields": attrs.asdict(event)})


def describe(event: e.Event) -> tuple[int, str]:  # noqa: C901, PLR0912 - one line per event
    """Return the level and the words for an event."""
    match event:
        case e.JobEnded():
            return _describe_end(event)
        case e.JobStarted():
            return logging.DEBUG, f"{event.name} {event.id}: attempt {event.attempt} begins"
        case e.JobsClaimed():
            return logging.DEBUG, f"queue {event.queue}: claimed {event.count} of {event.asked}"
        case e.JobEnqueued():
            return logging.DEBUG, f"{event.name}: {len(event.ids)} enqueued in {event.queue}"
        case e.OutcomeRefused():
            said = (
                f"{event.name} {event.id}: its outcome ({event.end}) was refused, another worker owns it now"
            )
            return logging.WARNING, said
        case e.OutcomeLost():
            return logging.ERROR, f"{event.name} {event.id}: its outcome cannot be written: {event.error}"
        case e.JobRescued():
            return (
                logging.WARNING,
                f"{event.name} {event.id}: worker {event.worker} is dead; the job is {event.state}",
            )
        case e.JobStuck():
            return (
                logging.WARNING,
                f"{event.name} {event.id} is stuck ({event.why}, {event.seconds:.0f} s):\n{event.stack}",
            )
        case e.JobCancelPhase():
            return logging.INFO, f"{event.name} {event.id}: cancel {event.phase}: {event.reason}"
        case e.QueueStalled():
            return (
                logging.ERROR,
                f"queue {event.queue}: {event.due} due, {event.free} free slots, no claim; restarted",
            )
        case e.QueuePaused():
            return logging.INFO, f"queue {event.queue}: {'paused' if event.paused else 'resumed'}"
        case e.StorageDown():
            return logging.ERROR, f"the database is away: {event.error}"
        case e.StorageUp():
            return logging.INFO, f"the database is back after {event.seconds:.1f} s"
        case e.CronFired():
            return logging.DEBUG, f"cron {event.name}: tick {event.tick} enqueued job {event.job_id}"
        case e.CronFailed():
            return logging.ERROR, f"cron {event.name}: {event.error}"
        case e.JobsPruned():
            return logging.INFO, f"pruned {event.count} jobs"
        case e.WorkerStarted():
            return (
                logging.INFO,
                f"worker {event.worker} is up, serving {', '.join(event.queues) or 'nothing'}",
            )
        case e.WorkerStopping():
            said = f"worker {event.worker} is stopping: {event.running} jobs have {event.grace:g} s to end"
            return logging.INFO, said
        case e.WorkerStopped(error=error) if error:
            said = f"worker {event.worker} has stopped, but could not leave everything in order: {error}"
            return logging.WARNING, said
        case e.WorkerStopped():
            return logging.INFO, f"worker {event.worker} has stopped"
        case e.WorkerFenced():
            return (
                logging.ERROR,
                f"worker {event.worker} was away for {event.seconds:.1f} s: it cancelled its own jobs",
            )
        case e.ActorRestarted():
            said = f"{event.supervisor}: {event.child} failed ({event.error}), starts again in {event.delay:.1f} s"
            return logging.ERROR, said
        case e.NotifierDeaf():
            return logging.WARNING, f"no wake-ups, polling goes on: {event.error}"
        case _:
            return logging.INFO, repr(event)


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
