"""Draw filters, and a population of jobs on which they differ."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.job import NewJob, Wait
from jobrt._core.scopes import Child
from jobrt._core.states import ALL, Transition
from tests.conformance.build import add, claim, complete, end, job, ref, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobrt._core.job import JobRecord
    from jobrt._core.where import Where
    from tests.conformance.harness import Engine

__all__ = ["STEP", "VALUES", "filters", "populate"]

STEP = 1000
"""Seconds between the times in the population; drawn moments lie half-way, so that a running clock does no harm."""

VALUES: Sequence[Any] = (
    None,
    True,
    False,
    0,
    1,
    1.0,
    -1,
    100,
    1e2,
    0.1,
    1e-7,
    2**53,
    2**53 + 1,
    2**60 + 1,
    2**70,
    "",
    "0",
    "1",
    "true",
    "null",
    "it's",
    '"',
    "\\",
    "\\u0041",
    "A",
    "a",
    "%",
    "x' or '1'='1",
    "☃🐍",
    "\n",
    [],
    [1],
    [1.0],
    [[1]],
    [1, 2],
    [2, 1],
    [None],
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    {"a": None},
    {"a": {"b": [1, {"c": None}]}},
    {"b": 2, "a": 1},
    {"it's": 1, 'q"': 2, "a[0]": 3, "$": 4, "a b": 5, "☃": 6, "A": 7, "#-1": 8, "\\": 9},
)
FIELDS = [
    "v",
    "V",
    "v.a",
    "v.a.b",
    "v.b",
    "v.0",
    "v.-1",
    "v.it's",
    'v.q"',
    "v.a[0]",
    "v.$",
    "v.a b",
    "v.☃",
    "v.A",
    "v.#-1",
    "v.\\",
    "missing",
    "v.missing",
    "v' or 1=1 --",
]
_NAMES = ["send", "Send", "it's", "a%", ""]
_QUEUES = ["default", "mail", "x' or '1'='1"]
_TAGS = ["a", "b", "A", "it's", "a,b", '"', "", "☃"]
_WORKERS = ["w1", "w2", "nobody"]


def _new_jobs() -> list[NewJob]:
    """Return one job for each JSON value, otherwise as different as can be."""
    return [
        job(
            _NAMES[n % 3],
            {"v": value} if n % 7 else {},
            queue=_QUEUES[n % 2],
            priority=n % 5 - 2,
            tags=tuple(_TAGS[: n % 5]) if n % 2 else (_TAGS[n % len(_TAGS)],),
            metadata={"v": VALUES[-n], "n": n % 4},
            delay=None if n % 3 else timedelta(seconds=STEP * (n % 9)),
        )
        for n, value in enumerate(VALUES)
    ]


async def populate(engine: Engine) -> None:
    """Store jobs in all states, created, due and finished at different times."""
    storage, jobs = engine.storage, _new_jobs()
    events = [Transition.COMPLETE, Transition.RETRY, Transition.DISCARD, Transition.CANCEL, None]
    for n in range(0, len(jobs), 9):
        await add(storage, *jobs[n : n + 9])
        for worker, queue in (("w1", "default"), ("w2", "mail")):
            taken = await claim(storage, *_NAMES, queue=queue, worker=worker, limit=3, free_slots=2)
            await engine.advance(STEP)
            for at, one in enumerate(taken):
                event = events[(n // 9 + at) % 5]
                if event is not None:
                    await storage.attempts.finish([end(one, event, delay=3.0 * STEP)])
    slept = await start(storage, job("it's", queue="scoped"))
    await storage.scopes.sleep(ref(slept), "night", seconds=3600)
    await storage.attempts.finish([end(slept, Transition.SUSPEND, wait=Wait("sleep", "night"))])
    parent = await start(storage, job("a%", queue="scoped"))
    await storage.scopes.open(ref(parent), "children", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(parent), "children", [Child("only", job("Send", queue="scoped"))])
    await complete(storage, parent)  # it is closing until its child has ended


def filters(population: Sequence[JobRecord]) -> st.SearchStrategy[Where]:
    """Draw filters of every kind, nested in every way, that can match jobs of the population."""
    leaves = st.one_of(
        _columns([one.id for one in population]),
        _tagged(),
        _json(),
        _times(sorted({when for one in population for when in _moments(one)})),
        st.just(where.everything()),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
            st.builds(where.And, st.lists(inner, max_size=3).map(tuple)),
            st.builds(where.Or, st.lists(inner, max_size=3).map(tuple)),
        ),
        max_leaves=8,
    )


def _columns(ids: Sequence[int]) -> st.SearchStrategy[Where]:
    return st.one_of(
        st.lists(st.sampled_from([*ids, -1, 2**62]), max_size=6).map(where.id_in),
        st.sampled_from(_NAMES).map(where.name),
        st.sampled_from(_QUEUES).map(where.queue),
        st.sampled_from(_WORKERS).map(where.worker),
        st.lists(st.sampled_from(sorted(ALL)), max_size=4).map(lambda some: where.state(*some)),
    )


def _tagged() -> st.SearchStrategy[Where]:
    some = st.lists(st.sampled_from(_TAGS), max_size=3)
    return st.one_of(some.map(where.tagged_any), some.map(where.tagged_all))


def _json() -> st.SearchStrategy[Where]:
    value, field = st.sampled_from(VALUES), st.sampled_from(FIELDS)
    whole = value.map(lambda one: {"v": one})
    return st.one_of(
        whole.map(where.args),
        st.just({}).map(where.args),
        st.builds(where.args, field, value),
        st.builds(lambda one, n: where.metadata({"n": n, "v": one}), value, st.integers(0, 3)),
        st.builds(where.metadata, field, value),
    )


def _moments(record: JobRecord) -> list[datetime]:
    times = (record.created_at, record.schedule_at, record.finished_at)
    return [one for one in times if one is not None]


def _times(moments: Sequence[datetime]) -> st.SearchStrategy[Where]:
    near = st.sampled_from([timedelta(microseconds=n) for n in (-1, 0, 1)])
    moment = st.builds(lambda one, by: one + by, st.sampled_from(moments), near)
    ago = st.integers(-12, 15).map(lambda n: timedelta(seconds=n * STEP + STEP / 2))
    compared = st.one_of(moment, ago)
    columns = [
        (where.scheduled_before, where.scheduled_after, where.scheduled_within),
        (where.created_before, where.created_after, where.created_within),
        (where.finished_before, where.finished_after, where.finished_within),
    ]
    return st.one_of(
        moment.map(where.scheduled_at),
        *(st.builds(one, compared) for before, after, _ in columns for one in (before, after)),
        *(st.builds(within, ago) for _, _, within in columns),
    )
