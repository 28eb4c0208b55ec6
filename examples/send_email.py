"""Email in the background, with one job class and a worker in the same program.

The mail server refuses the first connection, so the job is retried after its `BACKOFF`. An equal message is not sent
while the first is unfinished: the second job is a duplicate.

Run it with ``python examples/send_email.py``.
"""

import tenacity
import trio

import jobrt


class Mailer:
    """Stand-in for a mail server. It refuses the first connection."""

    def __init__(self) -> None:
        self.connections = 0

    async def send(self, to: str, *, subject: str) -> None:
        """Deliver a message, except over the first connection."""
        self.connections += 1
        if self.connections == 1:
            msg = "connection refused"
            raise ConnectionError(msg)
        print(f"sent {subject!r} to {to}")


class SendEmail(jobrt.Job):
    """Job that sends one message."""

    QUEUE = "mail"
    MAX_ATTEMPTS = 5
    MAX_CONCURRENCY = 10
    TIMEOUT = 30
    BACKOFF = tenacity.wait_exponential(multiplier=0.05, max=60) + tenacity.wait_random(0, 0.01)
    RETRY = tenacity.retry_if_exception_type(OSError)  # a wrong address, for example, is not retried
    UNIQUE = jobrt.Unique(by=("name", "args"))

    to: str
    subject: str = "Hello"

    async def run(self, ctx: jobrt.Context) -> str:
        """Send the message with the application's mailer."""
        await ctx.state.send(self.to, subject=self.subject)
        return f"delivered in attempt {ctx.job.attempt}"


app = jobrt.App("sqlite:///:memory:", jobs=[SendEmail], queues={"mail": 20}, state=Mailer)


async def main() -> None:
    """Enqueue two messages, run the job, and print its result."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        handle = await jobs.enqueue(SendEmail("ada@example.com", "Welcome!"), context="user-signup")
        second = await jobs.enqueue(SendEmail("ada@example.com", "Welcome!"))
        print(f"job {handle.id}; the second is a duplicate of job {second.id}: {second.duplicate}")
        worker = await nursery.start(app.run_worker)
        print(await handle.result())
        record = await jobs.get(handle.id)
        errors = [attempt.message for attempt in record.attempts]
        print(f"{record.state}; context: {record.context}; errors: {errors}")
        await worker.stop()


if __name__ == "__main__":
    trio.run(main)
