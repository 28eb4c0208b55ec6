"""Logging of the `worker` command: the application's, or one of its own if the application sets up none."""

import logging
import sys

from jobrt.logs import JsonFormatter, TextFormatter

_logger = logging.getLogger("jobrt")


def set_up_logging(*, verbose: bool, quiet: bool, log_format: str | None) -> None:
    """Log to standard error if the application, which was imported before, has no handler for jobrt's records.

    The handler is the root logger's, so that records of jobs are logged, too. A level that the application has set
    holds. The options are for jobrt's own records.
    """
    if verbose or quiet:
        _logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if _has_handler(_logger):
        if log_format is not None:
            _logger.warning("--log-format has no effect, because the application sets up logging")
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    if root.level == logging.WARNING:  # the default of Python; another level is the application's
        root.setLevel(logging.WARNING if quiet else logging.INFO)


def _has_handler(logger: logging.Logger) -> bool:
    """Return whether a handler gets the logger's records. A `NullHandler` does nothing with them."""
    step: logging.Logger | None = logger
    while step is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in step.handlers):
            return True
        step = step.parent if step.propagate else None
    return False
