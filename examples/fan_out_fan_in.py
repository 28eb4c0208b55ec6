"""Fan out and in: a parent enqueues children, waits for them without holding a slot, and adds up.

The parent is a durable program: kill the process anywhere and start it again, and it goes on; `tests/chaos/flow.py`
does so at every call of the database. `ctx.step` enqueues the children once over all attempts; `After` lets the
parent run again when all of them have ended, well or not.

Run it with ``python examples/fan_out_fan_in.py``.
"""

from typing import Any

import trio

import jobrt
from jobrt import where


class Count(jobrt.Job):
    """Count the words of one text."""

    MAX_ATTEMPTS = 1

    text: str

    async def run(self, ctx: jobrt.Context) -> int:
        """Count; refuse an empty text."""
        if not self.text:
            msg = "nothing to count"
            raise ValueError(msg)
        return len(self.text.split())


class CountAll(jobrt.Job):
    """Count the words of all texts."""

    texts: list[str]

    async def run(self, ctx: jobrt.Context) -> Any:
        """Enqueue a child for each text, come back when they have ended, add up what they returned."""
        async with ctx.step("children") as step:
            if step.todo:
                handles = await ctx.client.enqueue_many(
                    Count(text).with_options(unique=jobrt.Unique(key=f"{ctx.job.id}.{number}", states="all"))
                    for number, text in enumerate(self.texts)
                )  # unique: should the process die between the insert and the end of this step
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
    """Count the words of four texts, one of them empty, one job at a time."""
    async with app.open_client() as jobs:
        handle = await jobs.enqueue(CountAll(["a b c", "d e", "", "f"]))
        await app.drain()
        print(await handle.result())
        print("attempts used by the parent:", (await jobs.get(handle.id)).attempt)


if __name__ == "__main__":
    trio.run(main)
