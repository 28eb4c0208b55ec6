"""Keys of a terminal, one by one and without their echo."""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Final

import trio

_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrows and other keys without a character send."""
_AT_ONCE: Final = 64


@contextmanager
def single_keys() -> Generator[Callable[[], AsyncIterator[str]] | None]:
    """Provide a function that returns the keys that are pressed; None if there is no keyboard to read.

    The terminal is set back at the end of the block. Ctrl-C stays a signal.
    """
    try:
        import termios  # noqa: PLC0415 - not on Windows
        import tty  # noqa: PLC0415 - the same
    except ModuleNotFoundError:
        yield None
        return
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield lambda: _keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _keys(descriptor: int) -> AsyncIterator[str]:
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        text = os.read(descriptor, _AT_ONCE).decode(errors="replace")
        if not text:  # the terminal has gone
            return
        for key in _SEQUENCE.sub("", text):
            yield key


async def resizes() -> AsyncIterator[None]:
    """Return each change of the terminal's size; never, where the system does not tell."""
    if not hasattr(signal, "SIGWINCH"):
        await trio.sleep_forever()
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _ in signals:
            yield
