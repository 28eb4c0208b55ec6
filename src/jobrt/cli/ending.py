"""End of the process of a command: whatever threads its jobs have left, it ends in time and with its exit status."""

import atexit
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import attrs

from jobrt._core.escape import printable
from jobrt._runtime.threads import threads_left

_LOG_SECONDS = 0.2
"""Time limit for the last line. A full pipe, or a lock that a blocked thread holds, must not keep the process."""
_THREADS_SECONDS = 1.0
"""Seconds for threads to end by themselves."""
_EXIT_SECONDS = 4.0
"""Seconds for functions that run at the exit, such as exporters that send their last data."""
_INTERVAL = 0.02

_logger = logging.getLogger("jobrt")


@attrs.define(eq=False)
class _Process:
    """State of the process: whether it ends with the command, and since when jobs have run in it."""

    own: bool = False
    status: int | None = None
    """What the command has returned."""
    exit_by: float | None = None
    exiting: threading.Lock = attrs.Factory(threading.Lock)
    """Held by the one thread that exits, and never released: the others wait for the end."""


_process = _Process()


def owns_process() -> bool:
    """Return whether the process ends with the command; a test calls commands in a process that goes on."""
    return _process.own


def expect_exit_by(moment: float) -> None:
    """Note that jobs have run in this process, and watch from now on that it is gone in time (`time.monotonic`)."""
    _process.exit_by = min(moment, time.monotonic() + _EXIT_SECONDS)
    threading.Thread(target=_exit_later, args=(_process.exit_by,), name="jobrt exit", daemon=True).start()


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command as this process, and end the process with the status that it returns.

    If jobs have run, the process does not wait for the threads that they have left.

    Python takes itself apart only if no other thread is left. A daemon thread that runs meanwhile, or that wakes up,
    can crash the process: it ends with SIGSEGV or SIGABRT instead of its status.
    """
    _process.own = True
    try:
        status = main()
    except BaseException as error:
        if not _other_threads():
            raise
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            status = error.code
        else:
            sys.excepthook(type(error), error, error.__traceback__)
            status = 1
    _process.status = status
    if _process.exit_by is not None:
        _wait_in_time(_process.exit_by)
    elif _other_threads():
        _wait_for_threads(math.inf)  # as Python does
    else:
        sys.exit(status)
    # They flush logs and exporters.
    atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - there is no public way
    _flush()
    with _process.exiting:
        os._exit(status)


def _other_threads() -> bool:
    return threading.active_count() > 1


def _wait_in_time(exit_by: float) -> None:
    """Wait a moment for threads that jobs have left. Python itself would wait for them for ever."""
    if left := _wait_for_threads(min(exit_by, time.monotonic() + _THREADS_SECONDS)):
        _log_within(_LOG_SECONDS, f"exiting although threads are still running: {', '.join(left)}")


def _wait_for_threads(deadline: float) -> Sequence[str]:
    while (left := threads_left()) and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
    return left


def _exit_later(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
    if _process.status is None:
        exit_now(1, "exiting although the command has not returned")
    exit_now(_process.status, "exiting although functions that run at the exit have not returned")


def exit_now(status: int, message: str, *, jobs: Sequence[str] = ()) -> NoReturn:
    """Log one line and exit, from any thread and whatever the other threads do.

    If another thread is exiting, wait for that.
    """
    with _process.exiting:
        names = ", ".join(map(printable, jobs))
        left = f"; jobs left, which run again at the latest when the lease expires: {names}" if jobs else ""
        _log_within(_LOG_SECONDS, message + left)
        os._exit(status)


def _log_within(seconds: float, message: str) -> None:
    def log() -> None:
        _logger.error(message)
        _flush()

    thread = threading.Thread(target=log, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, and starts no threads any more
        log()
    else:
        thread.join(seconds)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
