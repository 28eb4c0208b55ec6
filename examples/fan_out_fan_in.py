"""Parent job that waits for its child jobs without using a slot, and combines their results.

The parent is durable: if its process is killed and started again, it continues. `tests/chaos/flow.py` tests this at
every database call. `ctx.step` enqueues the children once over all attempts. `After` runs the parent again when all
children have ended, with or without success.

Run it with ``python examples/fan_out_fan_in.py``.
"""

from typing import Any

import trio

import jobrt
from jobrt import where


class Count(jobrt.Job):
    """Job that counts the words of one text."""

    MAX_ATTEMPTS = 1

    text: str

    async def run(self, ctx: jobrt.Context) -> int:
        """Return the number of words; fail if the text is empty."""
        if not self.text:
            msg = "nothing to count"
            raise ValueError(msg)
        return len(self.text.split())


class CountAll(jobrt.Job):
    """Job that counts the words of several texts."""

    texts: list[str]

    async def run(self, ctx: jobrt.Context) -> Any:
        """Enqueue a child for each text, wait until all have ended, and add up their results."""
        async with ctx.step("children") as step:
            if step.todo:
                # The children are unique because the process may die between the insert and the end of this step.
                handles = await ctx.client.enqueue_many(
                    Count(text).with_options(unique=jobrt.Unique(key=f"{ctx.job.id}.{number}", states="all"))
                    for number, text in enumerate(self.texts)
                )
                step.value = [handle.id for handle in handles]
        if await ctx.client.count(
            where.id_in(step.value) & ~where.state("completed", "cancelled", "discarded")
        ):
            return jobrt.After(step.value)
        children = await ctx.client.query(where.id_in(step.value), order_by="id", limit=None)
        failed = {
            str(child.id): child.attempts[-1].message for child in children if child.state != "completed"
        }
        return {
            "words": sum(child.result for child in children if str(child.id) not in failed),
            "failed": failed,
        }


app = jobrt.App("sqlite:///:memory:", jobs=[Count, CountAll], queues={"default": 1})


async def main() -> None:
    """Count the words of four texts, one job at a time. One text is empty."""
    async with app.open_client() as jobs:
        handle = await jobs.enqueue(CountAll(["a b c", "d e", "", "f"]))
        await app.drain()
        print(await handle.result())
        print("attempts used by the parent:", (await jobs.get(handle.id)).attempt)


if __name__ == "__main__":
    trio.run(main)
