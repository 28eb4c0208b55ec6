"""Reads that do not depend on each other, at the same time: a page then waits for the slowest, not for the sum."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class Read(Generic[T]):
    """A read, and its ``value`` after `at_once`."""

    _call: Callable[[], Awaitable[T]]
    value: T = attrs.field(init=False)

    async def run(self) -> None:
        """Read, and keep the value."""
        self.value = await self._call()


async def at_once(*reads: Read[Any]) -> None:
    """Run the reads at the same time. The first error ends the others, and is raised alone."""
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        for read in reads:
            nursery.start_soon(_run, read, errors, nursery.cancel_scope)
    if errors:
        raise errors[0]


async def _run(read: Read[Any], errors: list[Exception], together: trio.CancelScope) -> None:
    try:
        await read.run()
    except Exception as error:  # noqa: BLE001 - raised again by `at_once`
        errors.append(error)
        together.cancel()
