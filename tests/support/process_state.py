"""What all tests of a process share, and each must leave as it was.

`own_state` is for what changes it, as a program may do in its own process: pages and commands that run in this one. The
fixture ``unchanged_process`` finds a test that leaves something behind, on which others would depend in some orders.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ProcessState", "own_state"]

_LOGGERS = (logging.getLogger(), logging.getLogger("jobrt"))
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PROVIDERS = (
    ("opentelemetry.trace", "_TRACER_PROVIDER"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
)
"""Variables that a program can set once, so nothing here sets them back."""


@attrs.frozen
class ProcessState:
    """State of this process at one time. Warnings are left out, because pytest restores their filters."""

    environment: dict[str, str]
    folder: str
    path: list[str]
    levels: list[tuple[int, bool, bool]]
    handlers: list[list[logging.Handler]]
    signals: list[Any]
    providers: list[Any]

    @classmethod
    def now(cls) -> ProcessState:
        """Return the present state. What pytest itself changes during a test is not in it."""
        return cls(
            environment={name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            folder=os.getcwd(),  # noqa: PTH109 - it is called twice for each test, and this is quicker
            path=sys.path[:],
            levels=[(logger.level, logger.propagate, logger.disabled) for logger in _LOGGERS],
            handlers=[[one for one in logger.handlers if not _of_pytest(one)] for logger in _LOGGERS],
            signals=[signal.getsignal(number) for number in _SIGNALS],
            providers=[getattr(sys.modules.get(module), name, None) for module, name in _PROVIDERS],
        )

    def difference(self, other: ProcessState) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ, with both values; of the environment only the variables that do."""
        fields = {name: (value, getattr(other, name)) for name, value in _fields(self)}
        found = {name: values for name, values in fields.items() if values[0] != values[1]}
        if "environment" in found:
            before, after = (set(environment.items()) for environment in found["environment"])
            found["environment"] = dict(before - after), dict(after - before)
        return found

    def restore(self) -> None:
        """Set back everything but the providers."""
        os.chdir(self.folder)
        sys.path[:] = self.path
        for name in set(os.environ) - set(self.environment) - {"PYTEST_CURRENT_TEST"}:
            del os.environ[name]
        os.environ.update(self.environment)
        for logger, (level, propagate, disabled), handlers in zip(
            _LOGGERS, self.levels, self.handlers, strict=True
        ):
            logger.handlers[:] = [*(one for one in logger.handlers if _of_pytest(one)), *handlers]
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
        for number, handler in zip(_SIGNALS, self.signals, strict=True):
            signal.signal(number, handler)


@contextmanager
def own_state() -> Generator[None]:
    """Undo at the end what the body changes. Within it there is no handler of pytest, as in a program."""
    before = ProcessState.now()
    hidden = [logger.handlers[:] for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.handlers[:] = []
    try:
        yield
    finally:
        for logger, handlers in zip(_LOGGERS, hidden, strict=True):
            logger.handlers[:] = handlers
        before.restore()


def _fields(state: ProcessState) -> list[tuple[str, Any]]:
    return [(field.name, getattr(state, field.name)) for field in attrs.fields(ProcessState)]


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest.")
