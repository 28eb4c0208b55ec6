"""A worker in the benchmark's own process."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import jobrt

__all__ = ["FIRST_FAMILY", "working"]

FIRST_FAMILY = 200
"""Children of a job that runs before the measured one. Each connection plans its statements at their first use."""


@asynccontextmanager
async def working(app: jobrt.App) -> AsyncGenerator[jobrt.Client]:
    """Run a worker of the app for the block, and yield a client; the worker is idle at first."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        await nursery.start(app.run_worker)
        await trio.sleep(0.2)
        gc.collect()
        yield jobs
        nursery.cancel_scope.cancel()
