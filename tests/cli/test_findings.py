"""Tests of findings: each situation has one that names it and the remedy, and no other is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.health import QueueLoad, Vitals
from jobrt._core.limits import HELD_CHARACTERS
from jobrt._core.queues import Queue, QueueStatus
from jobrt._core.rates import Bucket
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import WorkerRow
from jobrt._views.findings import Finding, Snapshot, examine
from jobrt._views.limits import blocking_limits, limits_of
from jobrt._views.trees import worker_condition
from jobrt._views.words import size
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MIB = 1 << 20
GIB = 1 << 30


def worker(
    *, beat: timedelta = timedelta(), limits: Mapping[str, int] | None = None, **queue: Any
) -> WorkerRow:
    """Return a live worker that serves the queue ``slow`` with two slots."""
    info = worker_info(
        queues={"slow": {"concurrency": 2, **queue}}, clock=(NOW - beat).isoformat(), limits=limits or {}
    )
    return WorkerRow(
        id="w1",
        started_at=NOW,
        beat_at=NOW - beat,
        expires_at=NOW - beat + timedelta(seconds=30),
        alive=True,
        info=info,
    )


def find(
    *rows: WorkerRow,
    due: int = 0,
    load: QueueLoad | None = None,
    more: Mapping[str, Any] | None = None,
    **known: Any,
) -> list[Finding]:
    """Return the findings about these workers and the queue ``slow`` with `due` jobs."""
    status: dict[str, Any] = {"available": due, "oldest_due": 5.0 if due else None, **(more or {})}
    loads = {} if load is None else {"slow": load}
    queues = [QueueStatus(name="slow", **status)]
    extra = {name: known.pop(name) for name in ("queues", "address") if name in known}
    snapshot = Snapshot(workers=rows, queues=queues, crons=(), now=NOW, loads=loads, **known)
    return list(examine(snapshot, names=(), **extra))


def wrong(findings: list[Finding]) -> str:
    """Return the texts of what is wrong."""
    return "\n".join(finding.text for finding in findings if finding.wrong)


def text(findings: list[Finding]) -> str:
    """Return all texts."""
    return "\n".join(finding.text for finding in findings)


def test_nothing_is_wrong_with_a_quiet_worker() -> None:
    """A live worker, an empty queue, equal clocks and a large disk are all fine."""
    vitals = Vitals(disk_free=100 * GIB, disk_total=1000 * GIB, wal=4 * MIB)
    found = find(worker(), local=NOW + timedelta(seconds=1), vitals=vitals)
    assert wrong(found) == ""
    assert "1 worker is alive" in text(found)
    assert "2 workers are alive" in text(find(worker(), worker()))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"refusal": "the disk is full"}, "the database cannot be written: the disk is full"),
        ({"vitals": Vitals(disk_free=MIB, disk_total=GIB)}, "nearly full, 1 MiB of 1 GiB are free"),
        ({"vitals": Vitals(wal=100 * MIB)}, "write-ahead log of the database has grown to 100 MiB"),
        ({"local": NOW + timedelta(hours=1)}, "this machine's clock is 1 h 0 min ahead of the database's"),
        (
            {"local": NOW - timedelta(hours=1)},
            "this machine's clock is 1 h 0 min behind that of the database's",
        ),
    ],
)
def test_problems_of_the_database(known: dict[str, Any], expected: str) -> None:
    """Each problem is one finding."""
    assert expected in wrong(find(worker(), **known))
    assert wrong(find(worker(), **known)).count("\n") == 0


def test_a_worker_with_a_damaged_row() -> None:
    """It is named with what cannot be read."""
    row = attrs.evolve(worker(), info=WorkerInfo(unreadable=("pid", "queue mail")))
    assert "worker w1: of what it tells, pid, queue mail cannot be read" in wrong(find(row))
    assert worker_condition(row).endswith(", cannot be read: pid, queue mail")


def test_clocks_of_workers() -> None:
    """A heartbeat in the future means that the clock was set back. A worker's own clock may differ as well."""
    assert "the database's clock was set back by at least 1 h 0 min" in wrong(
        find(worker(beat=-timedelta(hours=1)))
    )
    row = worker()
    info = worker_info(queues={"slow": {"concurrency": 2}}, clock=(NOW - timedelta(minutes=2)).isoformat())
    drifted = WorkerRow(
        id="w2", started_at=NOW, beat_at=NOW, expires_at=row.expires_at, alive=True, info=info
    )
    assert "worker w2: the clock of its machine is 2 min 0 s behind" in wrong(find(drifted))


def test_a_worker_that_beats_but_claims_nothing() -> None:
    """The finding has the error of its last claim, and for how long claims have failed."""
    found = wrong(find(worker(claim_error="StorageError: cache lookup failed", claim_failing=75.0), due=1))
    assert (
        "worker w1 beats but cannot claim jobs of queue slow since 1 min 15 s: StorageError: cache lookup"
        in found
    )


@pytest.mark.parametrize(
    ("settings", "load", "executing", "reason"),
    [
        (
            {"key": "args.c", "per_key": 1},
            QueueLoad({("a", '"x"'): 1}, {("a", '"x"'): 3}),
            1,
            'per_key=1 holds the due jobs with the key args.c = "x"',
        ),
        (
            {"key": "args.c", "per_key": 1},
            QueueLoad({("a", "null"): 1}, {("b", "null"): 3}),
            1,
            "args.c = null (all jobs without this field share the key null)",
        ),
        (
            {"cluster_limit": 1},
            QueueLoad({("a", ""): 1}, {("a", ""): 3}),
            1,
            "cluster_limit=1 is reached: 1 run",
        ),
        (
            {"rate": {"count": 1, "per": 3600}},
            QueueLoad(due={("a", ""): 3}, buckets={None: Bucket(-600_000_000, 0, 3_600_000_000)}),
            0,
            "rate=Rate(1, per=3600, burst=1) is used up: the next job starts within 50 min 0 s",
        ),
        (
            {},
            QueueLoad(due={("a", ""): 3}, buckets={None: Bucket(0, 100_000, 1, 90_000_000)}),
            0,
            "a job asked for a pause (Throttle): nothing starts for 1 min 30 s",
        ),
        (
            {"key": "args.c", "per_key_rate": {"count": 1, "per": 60}},
            QueueLoad(due={("a", "7"): 3}, buckets={"7": Bucket(0, 0, 60_000_000)}),
            0,
            "holds the due jobs with the key args.c = 7: the next starts within 1 min 0 s",
        ),
        (
            {"key": "args.c", "fair": True},
            QueueLoad(due={("a", "7"): 3}, buckets={"7": Bucket(0, 100_000, 1, 90_000_000)}),
            0,
            "a pause (Throttle) holds the due jobs with the key args.c = 7: the next starts within 1 min 30 s",
        ),
        (
            {"running": 1, "large_texts": HELD_CHARACTERS},
            QueueLoad({("a", ""): 1}, {("a", ""): 3}),
            1,
            "as many payloads as they may (50 million characters of large payloads each)",
        ),
        ({}, QueueLoad({("a", ""): 2}, {("a", ""): 3}), 2, "all 2 slots are busy (concurrency)"),
        (
            {"limits": {"a": 1}},
            QueueLoad({("a", ""): 1}, {("a", ""): 3}),
            1,
            "MAX_CONCURRENCY holds the due jobs named 'a': 1 run",
        ),
    ],
    ids=[
        *("key", "missing key", "cluster limit", "rate", "pause", "key rate", "key pause", "large payloads"),
        *("slots", "name"),
    ],
)
def test_the_limit_that_holds_jobs_back_is_named(
    settings: dict[str, Any], load: QueueLoad, executing: int, reason: str
) -> None:
    """Jobs behind a limit are not wrong. The finding names the limit instead of free slots."""
    found = find(worker(**settings), due=3, load=load, more={"executing": executing, "oldest_due": 900.0})
    assert reason in text(found)
    assert wrong(found) == ""
    assert "free slot" not in text(found)


def test_jobs_that_no_limit_holds_are_wrong_after_a_minute() -> None:
    """A burst of due jobs is fine. Jobs that wait beside free slots are not."""
    load = QueueLoad({("a", '"x"'): 1}, {("a", '"x"'): 3, ("a", '"y"'): 1})
    limited = worker(key="args.c", per_key=1)
    assert wrong(find(limited, due=4, load=load)) == ""
    late = find(limited, due=4, load=load, more={"oldest_due": 61.0})
    assert "no limit holds them, but no worker takes them" in wrong(late)


def test_an_unserved_queue_gets_the_remedy_that_fits() -> None:
    """The application has the queue, or has it not, or there is no application."""
    has = wrong(find(due=1, queues={"slow": Queue()}, address="shop:app"))
    assert "start a worker that serves it: `python -m jobrt --app shop:app worker`" in has
    assert "this application does not have it: correct the name" in wrong(
        find(due=1, queues={"other": Queue()})
    )
    assert "start a worker of an application that has this queue" in wrong(find(due=1))


_pairs = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from(["1", "null"])), st.integers(1, 3))


@given(
    _pairs, _pairs, st.none() | st.integers(1, 4), st.none() | st.integers(1, 4), st.integers(1, 9),
    st.dictionaries(st.sampled_from("ab"), st.integers(1, 3)),
)  # fmt: skip
def test_limits_are_named_if_and_only_if_no_due_job_can_start(
    running: dict[tuple[str, str], int],
    due: dict[tuple[str, str], int],
    cluster_limit: int | None,
    per_key: int | None,
    slots: int,
    names: dict[str, int],
) -> None:
    """The finding agrees with the rules of a claim, for any combination of limits."""
    row = worker(
        concurrency=slots,
        cluster_limit=cluster_limit,
        per_key=per_key,
        key=per_key and "args.c",
        limits=names,
    )
    load, total = QueueLoad(running, due), sum(running.values())
    status = QueueStatus(name="slow", executing=total)
    open_jobs = [
        (name, key)
        for name, key in due
        if total < slots
        and (cluster_limit is None or total < cluster_limit)
        and (per_key is None or load.running_keys()[key] < per_key)
        and (name not in names or load.running_names()[name] < names[name])
    ]
    reasons = blocking_limits(status, limits_of("slow", [row]), load)
    if due:
        assert bool(reasons) is not bool(open_jobs)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3 TiB"), (5 << 50, "5120 TiB")],
)
def test_sizes_in_words(count: int, shown: str) -> None:
    """A size has its largest unit, and at most four digits."""
    assert size(count) == shown
