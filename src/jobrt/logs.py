"""Log messages for events, and formatters for log lines: text and JSON.

A worker logs its events to the logger ``jobrt``, in any program. Handlers, levels and formats are the program's.
In a message, all texts of others are printable (`jobrt._core.escape`), so that no formatter can be made to print
control characters or forged lines. The record's ``fields`` have them as they are.
"""

import json
import logging
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import attrs

from jobrt import events as e
from jobrt._core.escape import printable, printable_lines
from jobrt._core.states import End, State

__all__ = ["JsonFormatter", "TextFormatter", "describe", "log", "log_event", "logs_routine_events"]

logger: logging.Logger = logging.getLogger("jobrt")

_QUIET_ENDS = {End.FINISHED, End.SNOOZED, End.SUSPENDED}

_MESSAGES: dict[type[e.Event], tuple[int, str]] = {
    e.ActorRestarted: (
        logging.ERROR,
        "{0.supervisor}: {0.child} failed ({0.error}), restarting in {0.delay:.1f} s",
    ),
    e.CronFailed: (logging.ERROR, "cron {0.name}: {0.error}"),
    e.CronFired: (logging.DEBUG, "cron {0.name}: tick {0.tick} enqueued job {0.job_id}"),
    e.JobCancelPhase: (logging.INFO, "{0.name} {0.id}: cancel {0.phase}: {0.reason}"),
    e.JobNotBegun: (
        logging.ERROR,
        "hook {0.hook} {0.problem}; {0.name} {0.id} is given back, no attempt is used",
    ),
    e.JobRescued: (logging.WARNING, "{0.name} {0.id}: worker {0.worker} is dead; the job is {0.state}"),
    e.JobSetAside: (
        logging.WARNING,
        "job {0.id}: the database refuses to {0.doing} it ({0.error}); it is left aside for a minute",
    ),
    e.JobStarted: (logging.DEBUG, "{0.name} {0.id}: attempt {0.attempt} started"),
    e.JobStuck: (logging.WARNING, "{0.name} {0.id} is stuck ({0.why}, {0.seconds:.0f} s)"),
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
    e.WorkerStopping: (
        logging.INFO,
        "worker {0.worker} is stopping; running jobs: {0.running}, grace period: {0.grace:g} s",
    ),
}
"""Level and message of events with a fixed message. `str.format` receives the event, with printable texts."""

_INDENT = "    "


def logs_routine_events() -> bool:
    """Return whether routine events reach the log at all: they cost a third of the time of an empty job."""
    return logger.isEnabledFor(logging.DEBUG)


def log_event(event: e.Event) -> None:
    """Log an event. A worker subscribes this function to the events of its app."""
    log(event)


def log(event: e.Event, *, message: str | None = None, suffix: str = "") -> None:
    """Log an event, with another message than its own, or with a suffix after it."""
    level, own = describe(event)
    if not logger.isEnabledFor(level):
        return
    extra = {"event": type(event).__name__, "fields": _fields(event)}
    text = own + suffix if message is None else printable(message)
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None, extra=extra)
    details = _details(event)
    if details:
        record.exc_text = _indented(details)  # every formatter appends it
    logger.handle(record)


def _fields(event: e.Event) -> dict[str, Any]:
    """Return what `attrs.asdict` does, which takes as long as the rest of an event of plain values."""
    names = _field_names(cast("Any", type(event)))
    fields = {name: getattr(event, name) for name in names}
    if all(value is None or isinstance(value, (str, int, float)) for value in fields.values()):
        return fields
    return attrs.asdict(event, filter=_is_plain)


@cache
def _field_names(kind: type[e.Event]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind) if _is_plain(field, None))


def _is_plain(field: "attrs.Attribute[Any]", _value: Any) -> bool:
    """Return whether a field can be in any log: all but an exception, which may have anything in it."""
    return field.name != "exception"


def _indented(lines: str) -> str:
    return _INDENT + printable_lines(lines, indent=_INDENT)


def _details(event: e.Event) -> str | None:
    """Return the lines that belong below the message."""
    match event:
        case e.JobEnded():
            return event.traceback
        case e.JobStuck():
            return event.stack
        case _:
            return None


@attrs.frozen
class _Printable:
    """View of an event for messages: its texts are printable."""

    event: Any

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.event, name)
        return printable(value) if isinstance(value, str) else value


def describe(event: e.Event) -> tuple[int, str]:
    """Return the log level and the message of an event: one line, without control characters."""
    texts: Any = _Printable(event)
    match event:
        case e.JobEnded():
            return _describe_end(event)
        case e.JobEnqueued():
            return logging.DEBUG, f"{texts.name}: {len(event.ids)} enqueued in {texts.queue}"
        case e.QueuePaused():
            return logging.INFO, f"queue {texts.queue}: {'paused' if event.paused else 'resumed'}"
        case e.WorkerStarted():
            serving = ", ".join(map(printable, event.queues)) or "no queues"
            return logging.INFO, f"worker {texts.worker} is up, serving {serving}"
        case e.WorkerStopped():
            return _describe_stop(event)
        case _ if type(event) in _MESSAGES:
            level, message = _MESSAGES[type(event)]
            return level, message.format(texts)
        case _:
            return logging.INFO, printable(repr(event))


def _describe_stop(event: e.WorkerStopped) -> tuple[int, str]:
    message = f"worker {printable(event.worker)} has stopped"
    if event.error:
        message += f", but its shutdown was incomplete: {printable(event.error)}"
    if event.threads:
        names = ", ".join(map(printable, event.threads))
        message += f"; threads that were started meanwhile are still running: {names}"
    return logging.WARNING if event.error or event.threads else logging.INFO, message


def _describe_end(event: e.JobEnded) -> tuple[int, str]:
    attempt = f"{printable(event.name)} {event.id}: attempt {event.attempt}"
    message = f"{attempt} {event.end} after {event.seconds:.3f} s, {event.state}"
    if event.error_type or event.message:
        problem = f"{event.error_type + ': ' if event.error_type else ''}{event.message}"
        message += f": {printable(problem)}"
    if event.end in _QUIET_ENDS:
        return logging.DEBUG, message
    return logging.ERROR if event.state is State.DISCARDED else logging.WARNING, message


def _is_event(record: logging.LogRecord) -> bool:
    return record.name == logger.name and "event" in record.__dict__


class TextFormatter(logging.Formatter):
    """Formatter that nobody can make write a forged line, or control characters.

    A record begins in the first column. All its other lines, such as those of a traceback, are indented. The name of
    the logger is shown for other loggers than those of jobrt.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and indented lines below it."""
        own = record.name.partition(".")[0] == logger.name
        name = "" if own else f"{printable(record.name)}: "
        text = f"{self.formatTime(record)} {record.levelname} {name}{record.getMessage()}"
        lines = [printable_lines(text, indent=_INDENT)]
        if record.exc_info:
            lines.append(_indented(self.formatException(record.exc_info)))
        elif record.exc_text:
            lines.append(record.exc_text if _is_event(record) else _indented(record.exc_text))
        if record.stack_info:
            lines.append(_indented(record.stack_info))
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """Formatter that writes each record as one line, a JSON object with the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if _is_event(record):
            # An event's own `message` is left out: it is an error's, and the line's message contains it.
            fields = {"event": record.__dict__["event"], **record.__dict__["fields"]}
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
