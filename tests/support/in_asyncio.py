"""Programs on asyncio for tests, beside jobs on trio-asyncio, which changes the loops that ``asyncio.run`` makes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import trio
import uvloop

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def run_asyncio(program: Callable[[], Coroutine[Any, Any, Any]], loop: str = "asyncio") -> None:
    """Run a program in a new loop."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(program())


async def in_asyncio(program: Callable[[], Coroutine[Any, Any, Any]], loop: str = "asyncio") -> None:
    """Run a program in a new loop, in a thread."""
    with trio.fail_after(50):
        await trio.to_thread.run_sync(run_asyncio, program, loop)
