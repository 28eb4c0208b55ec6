"""Worker inside another event loop, such as asyncio's or a GUI's, with Trio's guest mode.

Run it with ``python examples/guest_mode.py``.
"""

import asyncio
from typing import Any

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:")


@app.job
async def add(ctx: jobrt.Context, first: int, second: int) -> int:
    """Add two numbers after a short delay."""
    await trio.sleep(0.01)
    return first + second


async def guest() -> int:
    """Enqueue and run ten jobs, as in any Trio program."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        handles = await jobs.enqueue_many(add.new(number, number) for number in range(10))
        total = sum([await handle.result() for handle in handles])
        await worker.stop()
    return total


async def host() -> None:
    """Run the Trio program as a guest of this asyncio program."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=finished.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    turns = 0
    while not finished.done():
        turns += 1
        await asyncio.sleep(0.001)
    print("the asyncio loop kept running:", turns > 1)
    print("total:", finished.result().unwrap())


if __name__ == "__main__":
    asyncio.run(host())
