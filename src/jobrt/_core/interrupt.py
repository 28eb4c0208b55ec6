"""The interrupt that a person sends, and the exception that code raises: two causes of a `KeyboardInterrupt`."""

import signal
from types import TracebackType
from typing import Any, Final, cast

_exceptions: Final[Any] = BaseExceptionGroup.exceptions


def leaves_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of a group, or nothing; a user's class has no say in it."""
    is_group = issubclass(type(error), BaseExceptionGroup)
    return cast("tuple[BaseException, ...]", _exceptions.__get__(error)) if is_group else ()


def from_signal(error: BaseException) -> bool:
    """Return whether an error, or a leaf of a group, was raised by this process's handler of SIGINT.

    Ctrl-C runs the handler (that of Trio, or the application's own) above whatever code runs at that moment, and the
    handler raises. So its frame is in the traceback. An exception that a job raises by itself has no such frame.
    """
    handler = signal.getsignal(signal.SIGINT)
    code = getattr(handler, "__code__", None)
    return code is not None and _raised_in(error, code)


def _raised_in(error: BaseException, code: object) -> bool:
    if leaves := leaves_of(error):
        return any(_raised_in(leaf, code) for leaf in leaves)
    return issubclass(type(error), KeyboardInterrupt) and _has_frame(error.__traceback__, code)


def _has_frame(trace: TracebackType | None, code: object) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False
