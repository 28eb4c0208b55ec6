"""Jobs of `adapter_chancy`, in a module that the processes of its executor can import."""

from __future__ import annotations

import harness
from chancy import job


@job(queue="bench")
def plain(*, number: int, pad: str) -> None:
    """Record the start; for process executors."""
    harness.body(number)


@job(queue="bench")
async def quick(*, number: int, pad: str) -> None:
    """Record the start; for the asyncio executor."""
    harness.body(number)
