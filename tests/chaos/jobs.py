"""Application of the chaos test: each body logs its begin and its end."""

from __future__ import annotations

import os
import time

import tenacity
import trio

import jobrt

LEASE = 3.0
_LOG = os.environ.get("JOBRT_CHAOS_LOG")
_FILE = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if _LOG else -1


def write(what: str, ctx: jobrt.Context) -> None:
    """Append a line in a single write, so that it is complete even if the process is killed next."""
    claimed = ctx._running.job  # the lease is not public; only the checks need it
    line = f"{what} {claimed.id} {claimed.attempt} {claimed.lease} {os.getpid()} {time.monotonic_ns()}\n"
    os.write(_FILE, line.encode())


class Work(jobrt.Job):
    """Job that takes some time, and fails in the first attempt if `fails` is true."""

    MAX_ATTEMPTS = None
    BACKOFF = tenacity.wait_fixed(0.2)

    seconds: float = 0.0
    fails: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        """Log the begin, sleep, and log the end."""
        write("begin", ctx)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            write("cancelled", ctx)
            raise
        if self.fails and not ctx.job.attempts:
            write("fail", ctx)
            raise OSError("fails is true")
        write("end", ctx)


app = jobrt.App(jobs=[Work], queues={"default": 5}, lease=LEASE, grace=0.5)
