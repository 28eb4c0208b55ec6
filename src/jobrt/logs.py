"""Log messages for events, as text and as JSON."""

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

_MESSAGES: dict[type[e.Event], tuple[int, str]] = {
    e.ActorRestarted: (
        logging.ERROR,
        "{0.supervisor}: {0.child} failed ({0.error}), restarting in {0.delay:.1f} s",
    ),
    e.CronFailed: (logging.ERROR, "cron {0.name}: {0.error}"),
    e.CronFired: (logging.DEBUG, "cron {0.name}: tick {0.tick} enqueued job {0.job_id}"),
    e.JobCancelPhase: (logging.INFO, "{0.name} {0.id}: cancel {0.phase}: {0.reason}"),
    e.JobRescued: (logging.WARNING, "{0.name} {0.id}: worker {0.worker} is dead; the job is {0.state}"),
    e.JobStarted: (logging.DEBUG, "{0.name} {0.id}: attempt {0.attempt} started"),
    e.JobStuck: (logging.WARNING, "{0.name} {0.id} is stuck ({0.why}, {0.seconds:.0f} s):\n{0.stack}"),
    e.JobsClaimed: (logging.DEBUG, "queue {0.queue}: claimed {0.count} of {0.asked}"),
    e.JobsPruned: (logging.INFO, "pruned {0.count} jobs"),
    e.NotifierDisconnected: (logging.WARNING, "cannot listen for wake-ups, polling instead: {0.error}"),
    e.OutcomeLost: (logging.ERROR, "{0.name} {0.id}: cannot write the outcome: {0.error}"),
    e.OutcomeRefused: (
        logging.WARNING,
        "{0.name} {0.id}: the outcome ({0.end}) was refused: the lease was lost",
    ),
    e.QueueStalled: (
        logging.ERROR,
        "queue {0.queue}: {0.due} due jobs and {0.free} free slots but no claim; restarting its fetcher",
    ),
    e.StorageDown: (logging.ERROR, "the database cannot be used: {0.error}"),
    e.StorageUp: (logging.INFO, "the database is available again after {0.seconds:.1f} s"),
    e.WorkerFenced: (
        logging.ERROR,
        "worker {0.worker} could not renew its lease for {0.seconds:.1f} s and cancelled its jobs",
    ),
    e.WorkerStopped: (logging.INFO, "worker {0.worker} has stopped"),
    e.WorkerStopping: (
        logging.INFO,
        "worker {0.worker} is stopping; running jobs: {0.running}, grace period: {0.grace:g} s",
    ),
}
"""Level and message of events with a fixed message. `str.format` receives the event."""


def log_event(event: e.Event) -> None:
    """Log an event. To log all events of an app, call ``app.events.subscribed(log_event)``."""
    log(event)


def log(event: e.Event, *, suffix: str = "") -> None:
    """Log an event, with a suffix after its message."""
    level, message = describe(event)
    if logger.isEnabledFor(level):
        message += suffix
        logger.log(level, message, extra={"event": type(event).__name__, "fields": attrs.asdict(event)})


def describe(event: e.Event) -> tuple[int, str]:
    """Return the log level and the message of an event."""
    match event:
        case e.JobEnded():
            return _describe_end(event)
        case e.JobEnqueued():
            return logging.DEBUG, f"{event.name}: {len(event.ids)} enqueued in {event.queue}"
        case e.QueuePaused():
            return logging.INFO, f"queue {event.queue}: {'paused' if event.paused else 'resumed'}"
        case e.WorkerStarted():
            serving = ", ".join(event.queues) or "no queues"
            return logging.INFO, f"worker {event.worker} is up, serving {serving}"
        case e.WorkerStopped(error=error) if error:
            message = f"worker {event.worker} has stopped, but its shutdown was incomplete: {error}"
            return logging.WARNING, message
        case _:
            level, message = _MESSAGES.get(type(event), (logging.INFO, "{0!r}"))
            return level, message.format(event)


def _describe_end(event: e.JobEnded) -> tuple[int, str]:
    attempt = f"{event.name} {event.id}: attempt {event.attempt}"
    message = f"{attempt} {event.end} after {event.seconds:.3f} s, {event.state}"
    if event.error_type or event.message:
        message += f": {event.error_type + ': ' if event.error_type else ''}{event.message}"
    if event.end in _QUIET_ENDS:
        return logging.DEBUG, message
    return logging.ERROR if event.state is State.DISCARDED else logging.WARNING, message


class JsonFormatter(logging.Formatter):
    """Formatter that writes each record as one line, a JSON object with the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if "event" in record.__dict__:
            # An event's own `message` is left out: it is an error's, and the line's message contains it.
            fields = {"event": record.__dict__["event"], **record.__dict__.get("fields", {})}
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
