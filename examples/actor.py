"""Actor: a job that lives long, receives messages, and keeps its state in a checkpoint.

It survives deployments: when its worker stops, it is suspended, and the next worker goes on with the last checkpoint.
`forget=True` drops the messages received so far in the same transaction, so that it does not grow with its age.

Run it with ``python examples/actor.py``.
"""

import tempfile
from typing import Literal

import attrs
import trio

import jobrt


@attrs.frozen
class Change:
    """Message to an account."""

    kind: Literal["pay in", "pay out", "close"]
    amount: int = 0


class Account(jobrt.Job):
    """Job that holds the balance of one account until it is closed."""

    MAX_ATTEMPTS = None

    owner: str

    async def run(self, ctx: jobrt.Context) -> int:
        """Handle one message after the other."""
        balance: int = ctx.saved or 0
        print(f"{self.owner}: {balance}")
        while True:
            change = await ctx.receive("change", Change)
            match change.kind:
                case "pay in":
                    balance += change.amount
                case "pay out":
                    balance -= change.amount
                case "close":
                    return balance
            # The balance and the receipt of the message are stored together: no message counts twice.
            await ctx.checkpoint(balance, forget=True)
            await ctx.state.send(balance)


async def main() -> None:
    """Start a worker, replace it by another one, and send messages before, between and after."""
    with tempfile.TemporaryDirectory() as home:
        tell, balances = trio.open_memory_channel[int](10)
        app = jobrt.App(f"sqlite:///{home}/bank.db", jobs=[Account], state=tell)
        async with app.open_client() as jobs:
            account = await jobs.enqueue(Account("ada"))
            await account.send("change", Change("pay in", 100))
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await account.send("change", Change("pay out", 30), key="rent")
                print("balances:", await balances.receive(), await balances.receive())
                await worker.stop()
            print("no worker; the account is", (await jobs.get(account.id)).state)
            await account.send("change", Change("pay out", 30), key="rent")  # the same key: dropped
            await account.send("change", Change("pay in", 5))
            await account.send("change", Change("close"))
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                print("closed with", await account.result())
                await worker.stop()


if __name__ == "__main__":
    trio.run(main)
