"""Two applications in one program, each with its own database, queues and worker.

A `jobrt.App` has no global state. Two apps may have jobs with the same name.

Run it with ``python examples/two_apps.py``.
"""

import trio

import jobrt

shop = jobrt.App("sqlite:///:memory:", name="shop")
archive = jobrt.App("sqlite:///:memory:", name="archive")


@shop.job
async def store(ctx: jobrt.Context, order: int) -> str:
    """Take an order and store it with a job of the other application."""
    async with archive.open_client() as jobs:
        handle = await jobs.enqueue(keep.new(order), context=f"order of shop job {ctx.job.id}")
        return await handle.result()


@archive.job(name="store")
async def keep(ctx: jobrt.Context, order: int) -> str:
    """Store an order."""
    return f"order {order} is stored; context: {ctx.job.context}"


async def main() -> None:
    """Run a worker for each application and enqueue three orders."""
    async with trio.open_nursery() as nursery:
        workers = [await nursery.start(app.run_worker) for app in (shop, archive)]
        async with shop.open_client() as jobs:
            handles = await jobs.enqueue_many(store.new(number) for number in range(3))
            for handle in handles:
                print(await handle.result())
        for worker in workers:
            await worker.stop()


if __name__ == "__main__":
    trio.run(main)
