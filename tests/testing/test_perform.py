"""Unit tests of jobs that wait: `perform` and `drain` with children, messages and times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

import jobrt
from jobrt.testing import drain, open_app, perform

if TYPE_CHECKING:
    from trio.testing import MockClock


@attrs.frozen
class Decision:
    """A message."""

    yes: bool


class Tree(jobrt.Job):
    """Job with children of its own kind."""

    depth: int

    async def run(self, ctx: jobrt.Context) -> int:
        if not self.depth:
            return 1
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue_many([Tree(self.depth - 1)] * 2)
        return sum(child.result for child in nursery.children)


class Bad(jobrt.Job):
    """Child that fails."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        raise LookupError("bad")


class Approval(jobrt.Job):
    """Job that waits for a decision, a day at most if it is impatient, and then sleeps for two hours."""

    PARK = 0

    within: float | None = None

    async def run(self, ctx: jobrt.Context) -> str:
        try:
            decision = await ctx.receive("approval", Decision, within=self.within)
        except trio.TooSlowError:
            return "too slow"
        await ctx.sleep(2 * 3600)
        return "yes" if decision.yes else "no"


class Mixed(jobrt.Job):
    """Job whose block is left in one way or another."""

    how: str

    async def run(self, ctx: jobrt.Context) -> str:
        try:
            with trio.move_on_after(60 if self.how == "scope" else 1e9):
                async with ctx.open_nursery(deadline=60 if self.how == "deadline" else None) as nursery:
                    await nursery.enqueue(Tree(0), schedule_in=3600)
                    if self.how == "fails":
                        await nursery.enqueue(Bad())
                    await ctx.sleep(1800)
                return str(len(nursery.children))
        except trio.TooSlowError:
            return "too slow"
        except ExceptionGroup as group:
            return str(len(group.exceptions)) + " failed"
        return "moved on"


class Stateful(jobrt.Job):
    """Job that asks for the state."""

    child: bool = True

    async def run(self, ctx: jobrt.Context) -> Any:
        if not self.child:
            return ctx.state
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Stateful(child=False))
        return [ctx.state, nursery.children[0].result]


async def test_perform_runs_children() -> None:
    """Also those of the job's own name, and theirs. They have the same state."""
    assert await perform(Tree(3)) == 8
    assert await perform(Stateful(), state="pool") == ["pool", "pool"]


async def test_perform_sends_messages(autojump_clock: MockClock) -> None:
    """They are sent before the run; sleeps take virtual time."""
    assert await perform(Approval(), messages={"approval": [Decision(yes=True)]}) == "yes"
    assert trio.current_time() == pytest.approx(2 * 3600, abs=5)


async def test_perform_lets_limits_pass(autojump_clock: MockClock) -> None:
    """A message that does not come in time is too slow."""
    assert await perform(Approval(86400)) == "too slow"


async def test_a_message_that_nobody_sends_is_an_error() -> None:
    """A test does not hang; the error says what to pass."""
    with pytest.raises(
        RuntimeError, match=r"a message 'approval' that nobody sends: pass perform\(\.\.\., messages="
    ):
        await perform(Approval())


@pytest.mark.parametrize(
    ("how", "result"),
    [("waits", "1"), ("fails", "1 failed"), ("deadline", "too slow"), ("scope", "moved on")],
)
async def test_perform_leaves_blocks_as_a_worker_does(
    how: str, result: str, autojump_clock: MockClock
) -> None:
    """By the end of the children, a failure, a deadline, or a scope within the job."""
    assert await perform(Mixed(how), app=jobrt.App("sqlite:///:memory:", jobs=[Mixed, Tree, Bad])) == result


async def test_an_app_performs_no_job_that_waits() -> None:
    """There is no worker that could run children."""
    app = jobrt.App("sqlite:///:memory:", jobs=[Approval])
    with pytest.raises(RuntimeError, match="Approval waits for message 'approval', and there is no worker"):
        await app.perform("Approval", {})


async def test_a_drain_suspends_and_goes_on(autojump_clock: MockClock) -> None:
    """It ends when nothing is due; the next one continues what has become due since."""
    async with open_app(jobs=[Approval]) as (app, jobs):
        job = await jobs.enqueue(Approval())
        counts: Any = await drain(app)
        assert counts == {"suspended": 1}
        await job.send("approval", Decision(yes=False))
        assert await drain(app) == {"suspended": 1}
        await trio.sleep(2 * 3600)
        assert await drain(app) == {"completed": 1}
        assert await job.result() == "no"
