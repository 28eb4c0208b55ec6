"""`jobrt._core.unique_batch`: which jobs of a batch are new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.job import NewJob
from jobrt._core.states import INCOMPLETE, UNSTARTED, State
from jobrt._core.unique import Replace, UniqueKey
from jobrt._core.unique_batch import Batch, Place, Stored

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DIGESTS = ("a", "b")

keys = st.builds(
    UniqueKey,
    st.sampled_from(DIGESTS),
    st.sampled_from([None, timedelta(seconds=10)]),
    st.sampled_from([UNSTARTED, INCOMPLETE, frozenset({State.AVAILABLE}), frozenset({State.SCHEDULED})]),
    st.sampled_from([None, Replace("schedule_at"), Replace("args", "priority", when=("scheduled",))]),
)
new_jobs = st.builds(
    NewJob,
    st.just("name"),
    st.sampled_from(["{}", '{"n":1}']),
    priority=st.integers(0, 2),
    schedule_at=st.sampled_from([None, NOW, NOW + timedelta(1)]),
    delay=st.sampled_from([None, timedelta(0), timedelta(1)]),
    unique=st.none() | keys,
    version=st.sampled_from([None, 2]),
)
stored_jobs = st.lists(
    st.tuples(
        st.sampled_from(DIGESTS),
        st.sampled_from([State.SCHEDULED, State.AVAILABLE, State.RETRYABLE, State.COMPLETED]),
        st.sampled_from([1.0, 20.0]),
    ),
    max_size=5,
)


def batch_of(stored: list[Stored], jobs: list[NewJob]) -> Batch:
    """Return the plan for jobs."""
    batch = Batch.of([attrs.evolve(each) for each in stored], now=NOW)
    for job in jobs:
        batch.add(job)
    return batch


def one_by_one(stored: list[Stored], jobs: list[NewJob]) -> list[tuple[int, bool]]:
    """Return (id, duplicate) of jobs that are stored in batches of one, with ids that go on from the stored ones."""
    stored, results = [attrs.evolve(each) for each in stored], list[tuple[int, bool]]()
    for job in jobs:
        batch = batch_of(stored, [job])
        (place,) = batch.places
        if place.id is None:
            later = job.schedule_at > NOW if job.schedule_at else bool(job.delay)
            state = State.SCHEDULED if later else State.AVAILABLE
            stored.append(Stored(len(stored), job.unique.digest if job.unique else "", state, 0.0))
            results.append((len(stored) - 1, False))
            continue
        for id, replacing, fields in batch.replaced:
            if "schedule_at" in fields and stored[id].state is not State.RETRYABLE:
                later = replacing.schedule_at > NOW if replacing.schedule_at else bool(replacing.delay)
                stored[id].state = State.SCHEDULED if later else State.AVAILABLE
        results.append((place.id, True))
    return results


@given(stored_jobs, st.lists(new_jobs, max_size=8))
def test_a_batch_gives_the_same_as_one_after_the_other(
    stored: list[tuple[str, State, float]], jobs: list[NewJob]
) -> None:
    """Whatever the rules, and whatever they replace."""
    before = [Stored(number, *each) for number, each in enumerate(stored)]
    batch = batch_of(before, jobs)
    found = [
        (len(before) + place.new if place.id is None else place.id, place.duplicate) for place in batch.places
    ]
    assert found == one_by_one(before, jobs)


def test_the_newest_is_found() -> None:
    """Of stored jobs the one with the highest id, in whatever order they are given."""
    stored = [Stored(id, "a", State.AVAILABLE, 1.0) for id in (2, 3, 1)]
    job = NewJob("name", "{}", unique=UniqueKey("a", None, INCOMPLETE, None))
    assert batch_of(stored, [job]).places == [Place(id=3, duplicate=True)]


def test_a_new_job_takes_the_values_of_its_duplicates() -> None:
    """The fields that their rules name; the payload comes with its version."""
    rule = UniqueKey("a", None, INCOMPLETE, Replace("args", "schedule_at"))
    first = NewJob("name", "{}", unique=rule, delay=timedelta(1), context="kept")
    second = NewJob("name", '{"n":1}', unique=rule, schedule_at=NOW, version=2, priority=9)
    batch = batch_of([], [first, second])
    assert batch.places == [Place(new=0), Place(new=0, duplicate=True)]
    assert batch.new == [first._replace(args='{"n":1}', version=2, delay=None, schedule_at=NOW)]
