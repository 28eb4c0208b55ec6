"""`ctx.log`: a logger whose records have the job's fields, and stand in the job's stream, too.

Nothing here needs Trio: jobs in other processes use it.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from jobrt._core.stream import log_value

PARENT: Final = "jobrt.job"
"""Name of the logger whose handlers and level the program may set for what jobs log."""
_TOLD: Final = (
    *("name", "levelno", "levelname", "msg", "exc_text", "created", "msecs", "threadName"),
    *("pathname", "filename", "module", "lineno", "funcName"),
)
"""Attributes of a record that another process tells."""
_formatter: Final = logging.Formatter()


def log_level() -> int:
    """Return the level from which lines are stored: INFO, or a lower one if the parent logger is enabled for it."""
    return min(logging.INFO, logging.getLogger(PARENT).getEffectiveLevel())


class JobLogger(logging.Logger):
    """Logger of one attempt. It is in no registry, and ends with the attempt.

    Args:
        fields: attributes for all records; see `job_fields`.
        level: level from which lines are stored.
        store: takes each record.

    """

    def __init__(
        self, fields: Mapping[str, Any], level: int, *, store: Callable[[logging.LogRecord], None]
    ) -> None:
        super().__init__(f"{PARENT}.{fields['name_of_job']}", level)
        self.parent: logging.Logger | None = logging.getLogger(PARENT)
        self._fields = fields
        self._store = _Store(store)

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - the name in logging
        """Return a record with the fields of the job."""
        return self.with_fields(super().makeRecord(*args, **kwargs))

    def with_fields(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a record after adding the fields of the job."""
        record.__dict__.update(self._fields)
        return record

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        """Store a record, and pass it to the program's handlers if the parent logger is enabled for its level."""
        self._store.handle(record)
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.propagate and self.parent is not None and self.parent.isEnabledFor(record.levelno):
            self.parent.callHandlers(record)


class _Store(logging.Handler):
    """Handler that calls a function."""

    def __init__(self, store: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._function = store

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record."""
        try:
            self._function(record)
        except Exception:  # noqa: BLE001 - as handlers do: the error of a line is shown, and ends no program
            self.handleError(record)


def line_of(record: logging.LogRecord) -> str:
    """Return a record as the JSON text of an entry."""
    return json.dumps(log_value(record.levelname, record.getMessage(), _traceback(record)))


def _traceback(record: logging.LogRecord) -> str | None:
    if record.exc_info and not record.exc_text:
        return _formatter.formatException(record.exc_info)
    return record.exc_text or None


def told(record: logging.LogRecord) -> dict[str, Any]:
    """Return what another process is told of a record, as JSON values."""
    values = {name: getattr(record, name, None) for name in _TOLD}
    return values | {"msg": record.getMessage(), "exc_text": _traceback(record)}


def heard(values: Mapping[str, Any]) -> logging.LogRecord:
    """Return the record of which another process has told."""
    return logging.makeLogRecord({name: values[name] for name in _TOLD if name in values})


def job_fields(
    id: int, name: str, *, queue: str, attempt: int, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of log records: ``job`` (its id), ``name_of_job``, ``queue``, ``attempt`` and ``trace``.

    ``trace`` is the id of the trace in which the job was enqueued, or empty.
    """
    parent = metadata.get("traceparent")
    parts = parent.split("-") if isinstance(parent, str) else []
    trace = parts[1] if len(parts) == 4 else ""  # noqa: PLR2004 - version, trace, span, flags
    return {"job": id, "name_of_job": name, "queue": queue, "attempt": attempt, "trace": trace}
