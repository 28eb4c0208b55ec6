"""Jobs of the simulation that have children, wait for messages, or sleep."""

from __future__ import annotations

import math
import random
from typing import Any

import trio

import jobrt
from tests.simulation.jobs import Simulated

__all__ = ["FAMILIES", "ROOTS"]

LONG = 3600
"""Seconds of PARK in which no simulation suspends a job; so a deadlock of parked jobs does not resolve itself."""


class Leaf(Simulated):
    """Child that ends as it is told."""

    how: str = "ok"
    number: int = 0

    async def work(self, ctx: jobrt.Context) -> Any:
        match self.how:
            case "discard":
                return jobrt.Discard("no good")
            case "cancel":
                return jobrt.Cancel("not needed")
            case "flaky" if ctx.state.world.chance.random() < 0.5:
                raise OSError("half of the time")
            case "tell" if ctx.job.parent is not None:
                await _tell(ctx, ctx.job.parent)
            case "nap":
                await ctx.sleep(3)
        return "ok"


async def _tell(ctx: jobrt.Context, parent: int) -> None:
    """Send a message to the parent, which may be closing."""
    try:
        await ctx.client.send(parent, "news", ctx.job.id, key=f"from {ctx.job.id}")
    except jobrt.JobStateError:
        ctx.state.world.note(f"{parent} receives nothing any more")


class Inbox(Simulated):
    """Job that receives messages."""

    PARK = LONG

    count: int = 2

    async def work(self, ctx: jobrt.Context) -> Any:
        for _ in range(self.count):
            try:
                await ctx.receive("news", int, within=10)
            except trio.TooSlowError:
                break
        return "ok"


class SuspendedInbox(Inbox):
    """Inbox that does not stay in memory."""

    PARK = 0


class Nap(Simulated):
    """Job that sleeps."""

    PARK = 2

    seconds: float = 4

    async def work(self, ctx: jobrt.Context) -> Any:
        await ctx.sleep(self.seconds, name="first")
        ctx.state.world.families.slept(ctx.job.id, "first", self.seconds)
        await ctx.sleep(1, name="second")
        return "ok"


class Tree(Simulated):
    """Job with children, and perhaps grandchildren. All but its luck follows from ``plan``."""

    PARK = LONG

    depth: int = 1
    plan: int = 0

    async def work(self, ctx: jobrt.Context) -> Any:
        plan = random.Random(f"{self.plan}")
        for number in range(plan.choice([1, 1, 2])):
            hurry = plan.choice([math.inf, math.inf, math.inf, 8.0])
            with trio.move_on_after(hurry):
                await self._block(ctx, f"block {number}")
        return "ok"

    async def _block(self, ctx: jobrt.Context, name: str) -> None:
        """Open a nursery; if children fail, fail too, or go on."""
        plan = random.Random(f"{self.plan} {name}")
        on_failure, deadline = plan.choice(["cancel", "continue"]), plan.choice([None, None, None, 12])
        bad = False
        try:
            async with ctx.open_nursery(name, on_failure=on_failure, deadline=deadline) as nursery:
                with trio.CancelScope() as own:  # a fault may cancel it, as a time limit of the job would
                    await self._fill(ctx, nursery, name, plan)
                if own.cancelled_caught:
                    raise OSError("the body was cancelled")
        except* (jobrt.JobUnsuccessful, trio.TooSlowError):
            bad = True
        if bad and ctx.state.world.chance.random() < 0.3:
            raise OSError("children failed")

    async def _fill(self, ctx: jobrt.Context, nursery: Any, name: str, plan: random.Random) -> None:
        keyed = plan.choice([True, False])
        for number in range(plan.choice([1, 2, 3])):
            queue = plan.choice([ctx.job.queue, ctx.job.queue, "default", "narrow"])
            key = f"child {number}" if keyed else None
            await nursery.enqueue(self._child(plan, number), key=key, queue=queue)
        match plan.choice(["", "", "", "receive", "hurried", "sleep", "cancel", "own"]):
            case "receive":
                await ctx.receive("news", int, within=6)
            case "hurried":
                with trio.move_on_after(3):
                    await ctx.receive("news", int, within=20)
            case "sleep":
                await ctx.sleep(4, name=name)
            case "cancel":
                await nursery.cancel("enough")
            case "own":
                await trio.sleep(2)

    def _child(self, plan: random.Random, number: int) -> jobrt.Job:
        kinds: list[type[Tree]] = [Tree, SuspendedTree, BriefTree, HastyTree]
        if self.depth and plan.random() < 0.5:
            return plan.choice(kinds)(self.who, depth=self.depth - 1, plan=plan.randrange(1000))
        if plan.random() < 0.1:
            return plan.choice([Inbox, SuspendedInbox, Nap])(self.who)
        how = plan.choice(["ok", "ok", "ok", "flaky", "discard", "cancel", "tell", "nap"])
        return Leaf(self.who, how, number=number)


class SuspendedTree(Tree):
    """Tree that does not stay in memory while it waits."""

    PARK = 0


class BriefTree(Tree):
    """Tree that stays in memory for a short time."""

    PARK = 3


class HastyTree(Tree):
    """Tree with a timeout that some runs exceed."""

    TIMEOUT = 10


ROOTS: list[type[Simulated]] = [
    Tree,
    SuspendedTree,
    BriefTree,
    HastyTree,
    Tree,
    SuspendedTree,
    Inbox,
    SuspendedInbox,
    Nap,
]
FAMILIES: list[type[Simulated]] = [
    Leaf,
    Inbox,
    SuspendedInbox,
    Nap,
    Tree,
    SuspendedTree,
    BriefTree,
    HastyTree,
]
