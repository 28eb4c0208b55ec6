"""Support for plain functions (Hypothesis calls them) that wait for coroutines in the surrounding task.

The functions run in a greenlet (trio-asyncio needs that package anyway). A thread would do as well, but handing over
between threads takes milliseconds on a busy machine, and the state machine does it ten thousand times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["drive", "wait"]

T = TypeVar("T")


async def drive(function: Callable[[], object]) -> None:
    """Run a function that may call `wait`."""
    runner = greenlet(function)
    asked = runner.switch()
    while not runner.dead:
        try:
            answer = await asked
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the function
            asked = runner.throw(error)
        else:
            asked = runner.switch(answer)


def wait(function: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
    """Call an async function from one that is driven, and return what it returns."""
    driver = getcurrent().parent
    assert driver is not None, "only a function that `drive` runs can wait"
    result: T = driver.switch(function(*arguments, **named))
    return result
