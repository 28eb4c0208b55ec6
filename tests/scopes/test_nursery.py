"""Nurseries that outlive a process: a job is not over until its children are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt import State
from jobrt._client import enqueuer_of
from tests.runtime.test_worker import working

if TYPE_CHECKING:
    from tests.scopes.conftest import Scene, Site

LIMIT = 60
"""Seconds after which a test fails; none needs more than a few."""


class Leaf(jobrt.Job):
    """Child that returns its number."""

    number: int
    text: str = ""

    async def run(self, ctx: jobrt.Context) -> int:
        ctx.state.append(f"leaf {self.number}")
        return self.number


class Bad(jobrt.Job):
    """Child that fails for good."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        raise LookupError("bad")


class Slow(jobrt.Job):
    """Child that runs until it is cancelled."""

    number: int = 0

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("slow begun")
        try:
            await trio.sleep_forever()
        finally:
            ctx.state.append(("slow", ctx.cancelled[0] if ctx.cancelled else None))


class Album(jobrt.Job):
    """Parent of some leaves, that returns what they return."""

    count: int

    async def run(self, ctx: jobrt.Context) -> list[int]:
        ctx.state.append(f"album {ctx.job.attempt}")
        async with ctx.open_nursery("pages") as nursery:
            for number in range(self.count):
                await nursery.enqueue(Leaf(number))
        return [child.result for child in nursery.children]


class Suspended(Album):
    """Parent that does not stay in memory."""

    PARK = 0


class Tree(jobrt.Job):
    """Job with one child, which has one child, and so on."""

    depth: int

    async def run(self, ctx: jobrt.Context) -> int:
        if not self.depth:
            return 0
        async with ctx.open_nursery() as nursery:
            child = await nursery.enqueue(Tree(self.depth - 1))
        return 1 + await child.result()


class Mixed(jobrt.Job):
    """Parent of a child that fails, and of others."""

    MAX_ATTEMPTS = 1
    on_failure: str = "cancel"

    async def run(self, ctx: jobrt.Context) -> Any:
        failed: list[str] = []
        try:
            async with ctx.open_nursery(on_failure=self.on_failure) as nursery:  # type: ignore[arg-type]
                late = 3600 if self.on_failure == "cancel" else 0
                await nursery.enqueue_many([Bad(), Leaf(1).with_options(schedule_in=late)])
        except* jobrt.JobFailed as group:
            failed += [error.record.name for error in group.exceptions if isinstance(error, jobrt.JobFailed)]
        return failed or [child.state for child in nursery.children]


@pytest.mark.parametrize("parent", [Album, Suspended])
async def test_a_parent_ends_after_its_children(site: Site, parent: type[Album]) -> None:
    """It gets their results, in the order in which it asked for them, and each child has run once."""
    async with site(Leaf, Album, Suspended) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(parent(5))).result() == [0, 1, 2, 3, 4]
    assert sorted(scene.log).count("leaf 0") == 1
    runs = scene.log.count("album 1")
    assert runs == 1 if parent is Album else runs >= 1
    assert "album 2" not in scene.log  # waiting uses no attempt


async def test_one_slot_runs_a_tree_of_depth_ten(site: Site) -> None:
    """Jobs that wait hold no slot."""
    async with site(Tree, slots=1) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Tree(10))).result() == 10


@pytest.mark.parametrize(
    ("on_failure", "result"), [("cancel", ["Bad"]), ("continue", ["discarded", "completed"])]
)
async def test_a_child_that_fails(site: Site, on_failure: str, result: list[str]) -> None:
    """It cancels its siblings, and the block raises a group; or the others go on and nothing is raised."""
    async with site(Mixed, Bad, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            parent = await scene.jobs.enqueue(Mixed(on_failure))
            assert await parent.result() == result
        leaf = (await scene.jobs.query(jobrt.where.name("Leaf")))[0]
    assert leaf.state is (State.CANCELLED if on_failure == "cancel" else State.COMPLETED)
    assert leaf.parent == parent.id


async def test_cancelling_a_parent_cancels_its_family(site: Site) -> None:
    """Children that run are told by Stop.PARENT; those that wait never run."""

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue(Leaf(1).with_options(schedule_in=3600))
                await nursery.enqueue(Slow())  # last: the parent is cancelled when it has begun

    async with site(Parent, Slow, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            parent = await scene.jobs.enqueue(Parent())
            await _until(scene, "slow begun")
            assert await scene.jobs.cancel(parent.id, "enough") == 1
            record = await parent.wait()
        assert record.state is State.CANCELLED
        assert record.cancel_reason == "enough"
        family = await scene.jobs.tree(parent.id)
    assert [job.state for job in family] == [State.CANCELLED] * 3
    assert ("slow", jobrt.Stop.PARENT) in scene.log


class Ends(jobrt.Job):
    """Parent that ends its nursery when told to, and then waits for another message."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery(on_failure="continue") as nursery:
            await nursery.enqueue(Bad())
            await ctx.receive("end")
            await nursery.cancel("enough")
        ctx.state.append("block ended")
        await ctx.receive("go")


async def test_a_child_runs_again_only_while_its_nursery_is_open(site: Site) -> None:
    """An operator's rerun would otherwise start it in a scope that is over."""
    async with site(Ends, Bad) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            parent = await scene.jobs.enqueue(Ends())
            await _until_state(scene, State.DISCARDED, 1)
            child = (await scene.jobs.tree(parent.id))[1].id
            assert await scene.jobs.rerun(child) == 1
            await scene.jobs.wait(child)
            await parent.send("end")
            await _until(scene, "block ended")
            with pytest.raises(jobrt.JobStateError, match="the nursery that it belongs to, is over"):
                await scene.jobs.rerun(child)
            await parent.send("go")
            await parent.result()
            with pytest.raises(jobrt.JobStateError, match="run the parent again"):
                await scene.jobs.rerun(child)


class Gated(jobrt.Job):
    """Parent whose children wait for a message, so that a test decides when they end."""

    PARK: float = 600

    async def run(self, ctx: jobrt.Context) -> list[Any]:
        ctx.state.append("gated")
        async with ctx.open_nursery() as nursery:
            for number in range(2):
                await nursery.enqueue(Told(number))
        return [child.result for child in nursery.children]


class Told(jobrt.Job):
    """Child that returns what it is told."""

    number: int

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.state.append(f"told {self.number}")
        return await ctx.receive("word")


async def test_a_stop_suspends_and_another_worker_goes_on(site: Site) -> None:
    """All of them wait while no worker runs. Nobody uses an attempt."""
    async with site(Gated, Told) as scene:
        with trio.fail_after(LIMIT):
            async with working(scene.app):
                parent = await scene.jobs.enqueue(Gated())
                await _until(scene, "told 1")
                await _until_state(scene, State.SUSPENDED, 3)
            assert [job.state for job in await scene.jobs.tree(parent.id)] == [State.SUSPENDED] * 3
            for child in (await scene.jobs.tree(parent.id))[1:]:
                assert child.waiting is not None
                assert (child.waiting.kind, child.waiting.name) == ("message", "word")
                assert child.waiting.worker is None
                await scene.jobs.send(child.id, "word", child.args["number"] * 10)
            async with working(scene.app):
                assert await parent.result() == [0, 10]
        family = await scene.jobs.tree(parent.id)
    assert [job.attempt for job in family] == [1, 1, 1]
    assert scene.log.count("gated") == 2


async def test_a_failed_attempt_runs_the_failed_children_again(site: Site) -> None:
    """Those that completed are kept."""

    class Flaky(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> str:
            ctx.state.append("flaky")
            if ctx.state.count("flaky") == 1:
                raise LookupError("once")
            return "at last"

    class Parent(jobrt.Job):
        BACKOFF = staticmethod(lambda _job: 0.0)

        async def run(self, ctx: jobrt.Context) -> list[Any]:
            async with ctx.open_nursery() as nursery:
                leaf = await nursery.enqueue(Leaf(7))
                await leaf.wait()
                await nursery.enqueue(Flaky())
            return [child.result for child in nursery.children]

    async with site(Parent, Flaky, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            parent = await scene.jobs.enqueue(Parent())
            assert await parent.result() == [7, "at last"]
        assert len(await scene.jobs.tree(parent.id)) == 3
    assert scene.log.count("leaf 7") == 1


async def test_a_scope_within_the_job_cancels_the_children(site: Site) -> None:
    """As in Trio, the block ends after its children, and the code after the scope goes on, with a slot."""

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            with trio.CancelScope() as scope:
                async with ctx.open_nursery() as nursery:
                    await nursery.enqueue(Slow())
                    while "slow begun" not in ctx.state:
                        await trio.sleep(0.01)
                    scope.cancel()
            ctx.state.append("after")
            async with ctx.open_nursery("second") as nursery:
                await nursery.enqueue(Leaf(3))
            return str(nursery.children[0].result)

    async with site(Parent, Slow, Leaf, slots=2) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Parent())).result() == "3"
    assert scene.log == ["slow begun", ("slow", jobrt.Stop.PARENT), "after", "leaf 3"]


async def test_a_nursery_may_be_cancelled(site: Site) -> None:
    """The block ends without an error."""

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> list[str]:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue(Leaf(1).with_options(schedule_in=3600))
                await nursery.cancel("not needed")
                await trio.sleep_forever()
            return [child.state for child in nursery.children]

    async with site(Parent, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Parent())).result() == ["cancelled"]


async def test_a_child_may_be_awaited_without_a_slot(site: Site) -> None:
    """`handle.result()` in a queue with one slot does not wait for itself."""

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> int:
            async with ctx.open_nursery() as nursery:
                first = await (await nursery.enqueue(Leaf(1))).result()
                second = await (await nursery.enqueue(Leaf(2))).result()
            return first + second

    async with site(Parent, Leaf, slots=1) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Parent())).result() == 3


async def test_a_body_that_raises_cancels_its_children(site: Site) -> None:
    """As in Trio, the block raises a group with the body's error."""

    class Parent(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> str:
            try:
                async with ctx.open_nursery() as nursery:
                    child = await nursery.enqueue(Leaf(1).with_options(schedule_in=3600))
                    raise ValueError("oh")  # noqa: TRY301 - the block is what is tested
            except* ValueError:
                state = (await ctx.client.get(child.id)).state
            return state

    async with site(Parent, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Parent())).result() == "cancelled"


async def _twice(ctx: jobrt.Context) -> None:
    async with ctx.open_nursery("a"):
        pass
    async with ctx.open_nursery("a"):
        pass


async def _other_task(ctx: jobrt.Context) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ctx.receive, "x")


async def _in_transaction(ctx: jobrt.Context) -> None:
    async with ctx.transaction():
        await ctx.sleep(1)


async def _transaction_in_block(ctx: jobrt.Context) -> None:
    async with ctx.open_nursery(), ctx.transaction():
        pass


async def _one_key_for_two(ctx: jobrt.Context) -> None:
    async with ctx.open_nursery() as nursery:
        await nursery.enqueue(Leaf(1), key="one")
        await nursery.enqueue(Leaf(2), key="one")


async def _two_sleeps(ctx: jobrt.Context) -> None:
    await ctx.sleep(0)
    await ctx.sleep(0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_twice, "a second nursery 'a' in one run"),
        (_other_task, "only the task that runs `run` may wait"),
        (_in_transaction, "inside ctx.transaction()"),
        (_transaction_in_block, "ctx.transaction() in a nursery block"),
        (_one_key_for_two, "the key 'one' is used for two different jobs"),
        (_two_sleeps, "a second unnamed sleep"),
        (lambda ctx: ctx.sleep(-1), "seconds is -1"),
        (lambda ctx: ctx.sleep(float("inf")), "seconds is inf"),
        (lambda ctx: ctx.receive("x", within=float("nan")), "within is nan"),
        (lambda ctx: ctx.receive(""), "name is ''"),
    ],
)
async def test_mistakes_get_one_clear_error(site: Site, body: Any, message: str) -> None:
    """The attempt fails with words that name the thing and the remedy."""

    class Parent(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> None:
            await body(ctx)

    async with site(Parent, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            record = await (await scene.jobs.enqueue(Parent())).wait()
    assert record.state is State.DISCARDED
    assert message in (record.attempts[-1].message or ""), record.attempts[-1]


class Many(jobrt.Job):
    """Parent of many leaves at once, and of what is no job if there is a mistake."""

    MAX_ATTEMPTS = 1
    count: int
    mistake: bool = False

    async def run(self, ctx: jobrt.Context) -> int:
        jobs: list[Any] = [*map(Leaf, range(self.count)), *([7] if self.mistake else [])]
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue_many(jobs)
        return len(nursery.children)


@pytest.mark.parametrize(("count", "sizes"), [(1000, [1000]), (1101, [100, 1000, 1])])
async def test_many_children_begin_soon(site: Site, count: int, sizes: list[int]) -> None:
    """A thousand are one transaction. Of more, the first is small, so that workers begin while others are stored."""
    stored: list[int] = []

    async def hook(jobs: Any, enqueue: Any) -> Any:
        stored.append(len(jobs))
        return await enqueue(jobs)

    async with site(Many, Leaf) as scene:
        many = await scene.jobs.enqueue(Many(count))
        scene.app.around_enqueue(hook)
        async with working(scene.app):
            with trio.fail_after(LIMIT):
                assert await many.result() == count
    assert stored == sizes


class Reads(jobrt.Job):
    """Parent that says which records it got, or why it got none."""

    async def run(self, ctx: jobrt.Context) -> None:
        try:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue_many(map(Leaf, range(7)))
        except jobrt.StorageError as error:
            ctx.state.append((str(error), repr(error.__cause__)))
        else:
            ctx.state.append([child.result for child in nursery.children])


async def test_records_are_read_in_parts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in order, and an error is that of the storage: neither a group, nor without its cause."""
    monkeypatch.setattr("jobrt._runtime.nursery._CHUNK", 2)
    async with site(Reads, Leaf) as scene, working(scene.app):
        jobs = type(enqueuer_of(scene.jobs).storage.jobs)
        read = jobs.records
        asked: list[list[int]] = []

        async def cut(self: Any, ids: Any, **more: Any) -> Any:
            asked.append([*ids])
            if len(asked) == 3:
                raise jobrt.StorageUnavailable("gone") from OSError("cut")
            return await read(self, ids, **more)

        with trio.fail_after(LIMIT):
            await (await scene.jobs.enqueue(Reads())).result()
            monkeypatch.setattr(jobs, "records", cut)
            await (await scene.jobs.enqueue(Reads())).result()
    wholes = [entry for entry in scene.log if not isinstance(entry, str)]
    assert wholes == [[0, 1, 2, 3, 4, 5, 6], ("gone", "OSError('cut')")]


async def test_what_is_no_job_keeps_the_others_out(site: Site) -> None:
    """Nothing is stored, however many jobs are before it."""
    async with site(Many, Leaf) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            record = await (await scene.jobs.enqueue(Many(1500, mistake=True))).wait()
        assert "7 is not a job value" in (record.attempts[-1].message or "")
        assert await scene.jobs.count(jobrt.where.name("Leaf")) == 0


async def _until_state(scene: Scene, state: State, count: int) -> None:
    """Wait until so many jobs have a state."""
    while await scene.jobs.count(jobrt.where.state(state)) < count:
        await trio.sleep(0.01)


async def _until(scene: Scene, entry: object) -> None:
    """Wait until a job has written an entry."""
    while entry not in scene.log:
        await trio.sleep(0.01)
