"""Exactly-once writes: the job's writes and its completion commit in one transaction.

If the process dies at any line, either the payment is booked and the job is completed, or neither. Then the job runs
again. The same transaction enqueues the receipt. The shop enqueues the payment in its own transaction.

Run it with ``python examples/payments.py``.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import trio

import jobrt


class ProcessPayment(jobrt.Job):
    """Job that books a payment."""

    user_id: int
    amount_cents: int

    async def run(self, ctx: jobrt.Context) -> str:
        """Write the payment, enqueue the receipt and complete the job, all or nothing."""
        async with ctx.transaction(result="booked") as conn:
            await conn.execute("INSERT INTO payments VALUES (?, ?)", (self.user_id, self.amount_cents))
            await ctx.enqueue(SendReceipt(self.user_id), conn=conn)
            if ctx.job.attempt == 1:
                msg = "power failure just before the commit"
                raise OSError(msg)
        return "booked"


class SendReceipt(jobrt.Job):
    """Job that sends a receipt."""

    user_id: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Print the receipt."""
        print(f"receipt for user {self.user_id}")


async def main() -> None:
    """Enqueue two payments, one in a transaction that is rolled back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shop.db")
        app = jobrt.App(f"sqlite:///{path}", jobs=[ProcessPayment, SendReceipt])
        async with app.open_client() as jobs:
            with closing(sqlite3.connect(path, isolation_level=None)) as shop:
                shop.execute("CREATE TABLE payments (user_id INTEGER, amount_cents INTEGER)")
                shop.execute("BEGIN IMMEDIATE")
                await jobs.enqueue(ProcessPayment(1, 999_999), conn=shop)
                shop.execute("ROLLBACK")  # the user cancelled the order: nothing was enqueued
                shop.execute("BEGIN IMMEDIATE")
                handle = await jobs.enqueue(ProcessPayment(1, 1999), conn=shop)
                shop.execute("COMMIT")
                await app.drain()  # fails
                print("payments after the failure:", shop.execute("SELECT * FROM payments").fetchall())
                await jobs.update(handle.id, schedule_in=0)  # do not wait for the backoff
                await app.drain()
                print("payments:", shop.execute("SELECT * FROM payments").fetchall())
            print(await handle.result(), "at attempt", (await jobs.get(handle.id)).attempt)


if __name__ == "__main__":
    trio.run(main)
