"""A drain runs all due jobs of a queue with a rate, each when its token is there."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import drain, open_app


class Work(jobrt.Job):
    """Job of a tenant."""

    tenant: int

    async def run(self, ctx: jobrt.Context) -> None: ...


QUEUES = [
    (jobrt.Queue(rate=jobrt.Rate(1)), 5),
    (jobrt.Queue(key="args.tenant", per_key_rate=jobrt.Rate(1, per=5)), 10),
    (jobrt.Queue(rate=jobrt.Rate(1, burst=6)), 0),
]


@pytest.mark.parametrize(("queue", "seconds"), QUEUES)
def test_a_drain_waits_for_tokens(queue: jobrt.Queue, seconds: float) -> None:
    """It ends with the last job, not with the next token."""

    async def main() -> None:
        async with open_app(jobs=[Work], queues={"default": queue}) as (app, jobs):
            await jobs.enqueue_many([Work(tenant=number % 2) for number in range(6)])
            began = trio.current_time()
            assert await drain(app) == {"completed": 6}
            assert trio.current_time() == pytest.approx(began + seconds, abs=0.1)

    trio.run(main, clock=MockClock(autojump_threshold=0))
