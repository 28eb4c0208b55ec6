"""`Together`: what many callers store at the same moment is written in few transactions, and none harms another."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from jobrt._storage.together import Together
from jobrt.errors import StorageError, StorageUnavailable


@attrs.define(eq=False)
class Store:
    """Storage that takes a second for each transaction, and refuses what it is told to."""

    batches: list[tuple[int, ...]] = attrs.field(factory=list)
    stored: list[int] = attrs.field(factory=list)
    bad: set[int] = attrs.field(factory=set)
    separate: set[int] = attrs.field(factory=set)
    away: bool = False

    async def many(self, items: Sequence[int]) -> list[str | None]:
        """Store items that need not wait, or raise."""
        self.batches.append(tuple(items))
        await trio.sleep(1)
        self.refuse(items)
        kept = [item for item in items if item not in self.separate]
        self.stored += kept
        return [f"stored {item}" if item in kept else None for item in items]

    async def one(self, item: int) -> str:
        """Store an item, which takes long, or raise."""
        self.batches.append((item,))
        await trio.sleep(10)
        self.refuse([item])
        self.stored.append(item)
        return f"stored {item}"

    def refuse(self, items: Sequence[int]) -> None:
        """Raise if the items cannot be stored."""
        if self.away:
            raise StorageUnavailable("the database is away")
        if self.bad.intersection(items):
            raise StorageError(f"one of {len(items)} cannot be stored")


@attrs.define(eq=False)
class Callers:
    """Tasks that each store one item, and what became of them."""

    store: Store
    together: Together[int, str] = attrs.field(init=False)
    ends: dict[int, object] = attrs.field(factory=dict)
    scopes: dict[int, trio.CancelScope] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.together = Together(self.store.many, self.store.one)

    async def call(self, item: int, after: float = 0.0) -> None:
        """Store an item some seconds from now."""
        self.scopes[item] = trio.CancelScope()
        with self.scopes[item]:
            await trio.sleep(after)
            try:
                self.ends[item] = await self.together(item)
            except StorageError as error:
                self.ends[item] = error
            return
        self.ends[item] = "cancelled"


@pytest.fixture
def store() -> Store:
    """A storage."""
    return Store()


async def test_those_who_call_together_share_a_transaction(store: Store, autojump_clock: MockClock) -> None:
    """Who calls while others write waits for the next transaction, which has all who have waited."""
    callers = Callers(store)
    async with trio.open_nursery() as nursery:
        for item in range(10):
            nursery.start_soon(callers.call, item)
        await trio.sleep(0.5)
        for item in range(10, 15):
            nursery.start_soon(callers.call, item)
    assert [sorted(batch) for batch in store.batches] == [list(range(10)), list(range(10, 15))]
    assert callers.ends == {item: f"stored {item}" for item in range(15)}


async def test_one_that_cannot_be_stored_fails_alone(store: Store, autojump_clock: MockClock) -> None:
    """After a refusal, each is written separately, and only the cause raises."""
    callers, store.bad = Callers(store), {2}
    async with trio.open_nursery() as nursery:
        for item in range(4):
            nursery.start_soon(callers.call, item)
    assert sorted(map(len, store.batches)) == [1, 1, 1, 1, 4]
    assert str(callers.ends.pop(2)) == "one of 1 cannot be stored"
    assert callers.ends == {item: f"stored {item}" for item in (0, 1, 3)}


async def test_what_has_to_wait_delays_nobody(store: Store, autojump_clock: MockClock) -> None:
    """An item that the storage leaves out is written by itself, and those who call meanwhile do not wait for it."""
    callers, store.separate = Callers(store), {1}
    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(callers.call, item)
        nursery.start_soon(callers.call, 3, 5)
        await trio.sleep(7)
        assert callers.ends == {item: f"stored {item}" for item in (0, 2, 3)}
    assert callers.ends[1] == "stored 1"


async def test_an_outage_is_told_to_all(store: Store, autojump_clock: MockClock) -> None:
    """If the database is away, all callers learn that from one call, each by an error of its own."""
    callers, store.away = Callers(store), True
    async with trio.open_nursery() as nursery:
        for item in range(5):
            nursery.start_soon(callers.call, item)
    assert len(store.batches) == 1
    assert {str(end) for end in callers.ends.values()} == {"the database is away"}
    assert len(set(map(id, callers.ends.values()))) == 5


async def test_who_leads_may_be_cancelled(store: Store, autojump_clock: MockClock) -> None:
    """Then nothing of the batch is stored, and the next one writes it for the others."""
    callers = Callers(store)
    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(callers.call, item)
        await wait_all_tasks_blocked()
        (leader, *_), *_ = store.batches
        callers.scopes[leader].cancel()
    assert callers.ends.pop(leader) == "cancelled"
    assert set(callers.ends.values()) == {f"stored {item}" for item in callers.ends}
    assert leader not in store.stored


async def test_who_is_being_written_gets_the_result(store: Store, autojump_clock: MockClock) -> None:
    """A caller that is cancelled while another writes for it returns what became of its item."""
    callers = Callers(store)
    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(callers.call, item)
        await wait_all_tasks_blocked()
        callers.scopes[store.batches[0][1]].cancel()
    assert callers.ends == {item: f"stored {item}" for item in range(3)}


async def test_who_waits_can_be_cancelled(store: Store, autojump_clock: MockClock) -> None:
    """A caller that is cancelled before its item is written has stored nothing."""
    callers = Callers(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(callers.call, 0)
        await wait_all_tasks_blocked()
        nursery.start_soon(callers.call, 1)
        await wait_all_tasks_blocked()
        callers.scopes[1].cancel()
    assert callers.ends == {0: "stored 0", 1: "cancelled"}
    assert store.stored == [0]


async def test_cancelled_while_the_batch_fails(store: Store, autojump_clock: MockClock) -> None:
    """A caller that was cancelled meanwhile, and whose batch was refused, stores nothing more."""
    callers, store.bad = Callers(store), {0, 1, 2}
    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(callers.call, item)
        await wait_all_tasks_blocked()
        other = store.batches[0][2]
        callers.scopes[other].cancel()
    assert callers.ends[other] == "cancelled"
    assert store.stored == []


ONE = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5]),
    st.none() | st.sampled_from([0.0, 0.5, 1.2, 2.2, 3.7]),
    st.sampled_from(["good", "bad", "separate"]),
)


@given(st.lists(ONE, min_size=1, max_size=8))
def test_whatever_happens(ones: list[tuple[float, float | None, str]]) -> None:
    """Each caller returns and its item is stored once, or it raises or is cancelled and nothing is stored."""
    store = Store(
        bad={item for item, (_, _, kind) in enumerate(ones) if kind == "bad"},
        separate={item for item, (_, _, kind) in enumerate(ones) if kind == "separate"},
    )
    ends = trio.run(_called, store, ones, clock=MockClock(autojump_threshold=0))
    assert ends.keys() == set(range(len(ones)))
    for item, end in ends.items():
        expected = 0 if isinstance(end, StorageError) or end == "cancelled" else 1
        assert store.stored.count(item) == expected, (item, end)


async def _called(store: Store, ones: list[tuple[float, float | None, str]]) -> dict[int, object]:
    callers = Callers(store)

    async def cancel(item: int, seconds: float) -> None:
        await trio.sleep(seconds)
        callers.scopes[item].cancel()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for item, (after, cut, _) in enumerate(ones):
                nursery.start_soon(callers.call, item, after)
                if cut is not None:
                    nursery.start_soon(cancel, item, after + cut)
    return callers.ends


async def test_callers_that_come_again_are_written_together(store: Store, autojump_clock: MockClock) -> None:
    """Ten jobs, one after the other in each of ten tasks, need as many transactions as one task."""

    async def task(first: int) -> None:
        for number in range(6):
            await together(first + number)
            await trio.lowlevel.checkpoint()  # a job ends, and another begins

    together = Together(store.many, store.one)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(task, 10 * number)
    assert [len(batch) for batch in store.batches] == [10] * 6


async def test_those_who_call_before_the_turn_comes_join(store: Store, autojump_clock: MockClock) -> None:
    """A batch is put together when the turn has come: by then others may have called."""
    callers, turn = Callers(store), trio.Lock()
    callers.together.turn = lambda: turn
    async with trio.open_nursery() as nursery:
        await turn.acquire()
        for item in range(3):
            nursery.start_soon(callers.call, item, float(item))
        await trio.sleep(3)
        turn.release()
    assert store.batches == [(0, 1, 2)]
    assert not turn.locked()


async def test_cancelled_before_its_turn(store: Store, autojump_clock: MockClock) -> None:
    """Who waits for the turn can be cancelled, and then the next one waits for it."""
    callers, turn = Callers(store), trio.Lock()
    callers.together.turn = lambda: turn
    async with trio.open_nursery() as nursery:
        await turn.acquire()
        nursery.start_soon(callers.call, 0)
        await wait_all_tasks_blocked()
        nursery.start_soon(callers.call, 1)
        await wait_all_tasks_blocked()
        callers.scopes[0].cancel()
        await wait_all_tasks_blocked()
        turn.release()
    assert callers.ends == {0: "cancelled", 1: "stored 1"}
    assert store.batches == [(1,)]


class Refused(StorageUnavailable):
    """Raised when nothing was tried."""


async def test_an_error_that_passes_is_told_to_one(autojump_clock: MockClock) -> None:
    """If nothing was tried, the one that leads decides when to try again, and the next one tries at once."""

    async def many(items: Sequence[int]) -> list[str | None]:
        tries.append(tuple(items))
        await trio.sleep(1)
        if len(tries) == 1:
            raise Refused("locked")
        return ["stored" for _ in items]

    async def call(item: int) -> None:
        try:
            ends[item] = await together(item)
        except Refused as error:
            ends[item] = str(error)

    async def one(_item: int) -> str:
        raise AssertionError

    tries: list[tuple[int, ...]] = []
    ends: dict[int, str] = {}
    together = Together(many, one, passing=(Refused,))
    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(call, item)
    (first, *others), again = tries
    assert again == tuple(others)
    assert ends == {first: "locked"} | dict.fromkeys(others, "stored")
