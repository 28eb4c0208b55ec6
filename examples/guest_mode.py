"""A worker in a program whose loop is somebody else's: Trio as the guest of asyncio (or of a GUI's loop).

Run it with ``python examples/guest_mode.py``.
"""

import asyncio
from typing import Any

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:")


@app.job
async def add(ctx: jobrt.Context, first: int, second: int) -> int:
    """Add two numbers, slowly."""
    await trio.sleep(0.01)
    return first + second


async def guest() -> int:
    """Use jobrt as in any Trio program."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        handles = await jobs.enqueue_many(add.new(number, number) for number in range(10))
        total = sum([await handle.result() for handle in handles])
        await worker.stop()
    return total


async def host() -> None:
    """Be the program that was there before: asyncio's."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    turns = 0
    while not over.done():
        turns += 1
        await asyncio.sleep(0.001)
    print("the host's loop went on beside it:", turns > 1)
    print("total:", over.result().unwrap())


if __name__ == "__main__":
    asyncio.run(host())
