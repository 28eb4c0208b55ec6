"""Send mail in the background: one job class, a worker in the same program, a result.

The mail server refuses the first connection: the job is tried again two seconds later, or whatever `BACKOFF` says. The
second, equal message is not sent: while the first is under way, it is a duplicate.

Run it with ``python examples/send_email.py``.
"""

import tenacity
import trio

import jobrt


class Mailer:
    """Stand in for a mail server; it refuses the first connection."""

    def __init__(self) -> None:
        self.connections = 0

    async def send(self, to: str, *, subject: str) -> None:
        """Deliver a message."""
        self.connections += 1
        if self.connections == 1:
            msg = "connection refused"
            raise ConnectionError(msg)
        print(f"sent {subject!r} to {to}")


class SendEmail(jobrt.Job):
    """Deliver one message."""

    QUEUE = "mail"
    MAX_ATTEMPTS = 5
    MAX_CONCURRENCY = 10
    TIMEOUT = 30
    BACKOFF = tenacity.wait_exponential(multiplier=0.05, max=60) + tenacity.wait_random(0, 0.01)
    RETRY = tenacity.retry_if_exception_type(OSError)  # a wrong address is not tried again
    UNIQUE = jobrt.Unique(by=("name", "args"))

    to: str
    subject: str = "Hello"

    async def run(self, ctx: jobrt.Context) -> str:
        """Send it with the mailer that the app has."""
        await ctx.state.send(self.to, subject=self.subject)
        return f"delivered at attempt {ctx.job.attempt}"


app = jobrt.App("sqlite:///:memory:", jobs=[SendEmail], queues={"mail": 20}, state=Mailer)


async def main() -> None:
    """Enqueue, run, look at the result."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        handle = await jobs.enqueue(SendEmail("ada@example.com", "Welcome!"), context="user-signup")
        again = await jobs.enqueue(SendEmail("ada@example.com", "Welcome!"))
        print(f"job {handle.id}; the second is a duplicate of {again.id}: {again.duplicate}")
        worker = await nursery.start(app.run_worker)
        print(await handle.result())
        record = await jobs.get(handle.id)
        print(
            f"{record.state}, because of {record.context}; errors: {[one.message for one in record.attempts]}"
        )
        await worker.stop()


if __name__ == "__main__":
    trio.run(main)
