"""Two applications in one program: their own databases, queues and workers, one nursery.

Nothing is global: each `jobrt.App` knows its own jobs, and two may have jobs of the same name.

Run it with ``python examples/two_apps.py``.
"""

import trio

import jobrt

shop = jobrt.App("sqlite:///:memory:", name="shop")
archive = jobrt.App("sqlite:///:memory:", name="archive")


@shop.job
async def store(ctx: jobrt.Context, order: int) -> str:
    """Take an order, and let the other application keep it."""
    async with archive.open_client() as jobs:
        handle = await jobs.enqueue(keep.new(order), context=f"order of shop job {ctx.job.id}")
        return await handle.result()


@archive.job(name="store")
async def keep(ctx: jobrt.Context, order: int) -> str:
    """Keep an order."""
    return f"order {order} is kept, because: {ctx.job.context}"


async def main() -> None:
    """Run both, use both."""
    async with trio.open_nursery() as nursery:
        workers = [await nursery.start(one.run_worker) for one in (shop, archive)]
        async with shop.open_client() as jobs:
            handles = await jobs.enqueue_many(store.new(number) for number in range(3))
            for handle in handles:
                print(await handle.result())
        for worker in workers:
            await worker.stop()


if __name__ == "__main__":
    trio.run(main)
