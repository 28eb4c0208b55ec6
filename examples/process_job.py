"""CPU-bound job in a process: it reports progress, keeps checkpoints, and is stopped softly.

The first worker stops while the job runs. The job sees that, stores where it is and gives itself back. The second
worker goes on there, in another process. A second job is cancelled: it is told, stores its last number and ends by
itself, so that its process need not be killed.

Run it with ``python examples/process_job.py``; it needs ``jobrt[process]``.
"""

import tempfile

import trio

import jobrt

BLOCK = 2_000


class CountPrimes(jobrt.Job):
    """Job that counts the prime numbers below a limit."""

    RUN_IN = "process"

    below: int

    def run(self, ctx: jobrt.ProcessContext) -> int | jobrt.Snooze:
        """Count block by block. Every call of `ctx` also ends a cancelled attempt, after it has stored the value."""
        at, found = ctx.saved or (2, 0)
        while at < self.below:
            end = min(at + BLOCK, self.below)
            found += sum(is_prime(number) for number in range(at, end))
            at = end
            ctx.progress(at, self.below, f"{found} primes")
            ctx.checkpoint([at, found])
            if ctx.shutting_down.is_set():
                return jobrt.Snooze(0)  # the next worker goes on; no attempt is used
        return found


def is_prime(number: int) -> bool:
    """Return whether a number above 1 is prime, without any haste."""
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


async def begun(jobs: jobrt.Client, job_id: int, blocks: int) -> None:
    """Wait until a job has stored so many blocks."""
    record = await jobs.get(job_id)
    while (record.saved or [0])[0] < blocks * BLOCK:
        await trio.sleep(0.01)
        record = await jobs.get(job_id)


async def main() -> None:
    """Stop a worker in the middle of the first job, and cancel the second."""
    with tempfile.TemporaryDirectory() as home:
        app = jobrt.App(f"sqlite:///{home}/jobs.db", jobs=[CountPrimes])
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(CountPrimes(100_000))
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await begun(jobs, handle.id, blocks=5)
                await worker.stop()
            stopped = await jobs.get(handle.id)
            print("after the stop:", stopped.state, "with a checkpoint:", stopped.saved is not None)

            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                print("primes:", await handle.result(), "in attempt", (await jobs.get(handle.id)).attempt)
                endless = await jobs.enqueue(CountPrimes(10**12))
                await begun(jobs, endless.id, blocks=3)
                await jobs.cancel(endless.id, "that takes too long")
                record = await endless.wait()
                kept = isinstance(record.saved, list)
                print(f"cancelled: {record.cancel_reason}; its last number is kept: {kept}")
                await worker.stop()


if __name__ == "__main__":
    trio.run(main)
