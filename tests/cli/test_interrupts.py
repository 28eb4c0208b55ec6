"""Tests of Ctrl-C during a command."""

from __future__ import annotations

import signal
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
import trio

from jobrt.cli.interrupts import cancelled_by_interrupt, interrupted_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

press_ctrl_c = partial(signal.raise_signal, signal.SIGINT)


def own_handler(_number: int, _frame: FrameType | None) -> None:
    """Do nothing, as the handler of an application."""


@pytest.fixture
def handled_by() -> Generator[Callable[[Any], object]]:
    """Return a function that sets the handler of SIGINT; it is set back at the end."""
    before = signal.getsignal(signal.SIGINT)
    yield partial(signal.signal, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_cancels_the_command() -> None:
    """No code is left half done: it goes on until a checkpoint, and cleans up."""
    steps: list[str] = []

    async def command() -> None:
        press_ctrl_c()
        steps.append("a step")
        try:
            await trio.sleep_forever()
        finally:
            steps.append("the end")

    with pytest.raises(KeyboardInterrupt):
        trio.run(cancelled_by_interrupt, command)
    assert steps == ["a step", "the end"]


def test_a_second_ctrl_c_is_raised() -> None:
    """A command that blocks the event loop can be interrupted."""
    steps: list[str] = []

    async def command() -> None:
        press_ctrl_c()
        steps.append("a step")
        press_ctrl_c()
        steps.append("another")
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        trio.run(cancelled_by_interrupt, command)
    assert steps == ["a step"]


def test_a_command_that_is_complete_keeps_its_status() -> None:
    """It was told too late."""

    async def command() -> int:
        press_ctrl_c()
        return 3

    assert trio.run(cancelled_by_interrupt, command) == 3


def test_ctrl_c_is_raised_at_once_where_nothing_can_break() -> None:
    """A question does not wait for a second one; after it, Ctrl-C cancels again."""
    steps: list[str] = []

    async def command() -> None:
        with pytest.raises(KeyboardInterrupt), interrupted_at_once():
            press_ctrl_c()
        press_ctrl_c()
        steps.append("a step")
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(cancelled_by_interrupt, command)
    assert steps == ["a step"]


def test_the_handler_is_set_back() -> None:
    """Whatever the command did."""
    before = signal.getsignal(signal.SIGINT)
    trio.run(cancelled_by_interrupt, trio.lowlevel.checkpoint)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, own_handler])
def test_a_handler_that_the_command_sets_stays(
    handler: Callable[[int, FrameType | None], None], handled_by: Callable[[Any], object]
) -> None:
    """The imported application may have its own, and a worker's end ignores further signals."""

    async def command() -> None:
        with interrupted_at_once():
            handled_by(handler)
        await trio.lowlevel.checkpoint()

    trio.run(cancelled_by_interrupt, command)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_signal_that_is_ignored_stays_ignored(handled_by: Callable[[Any], object]) -> None:
    """A shell starts a process in the background so."""
    handled_by(signal.SIG_IGN)

    async def command() -> str:
        press_ctrl_c()
        await trio.lowlevel.checkpoint()
        return "complete"

    assert trio.run(cancelled_by_interrupt, command) == "complete"


def test_a_command_runs_in_any_thread() -> None:
    """There is no handler to set then."""

    async def main() -> None:
        await trio.to_thread.run_sync(trio.run, cancelled_by_interrupt, trio.lowlevel.checkpoint)

    trio.run(main)
