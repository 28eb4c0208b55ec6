"""Tests of the metrics, read by prometheus-client's parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import prometheus_client
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

import jobrt
from jobrt._core.queues import QueueStatus
from jobrt._storage.contract import Storage
from jobrt._views.status import QueueView
from jobrt.errors import StorageUnavailable
from jobrt.probes.exposition import exposition
from jobrt.probes.families import Family, counter, gauge, merge, queue_families
from jobrt.probes.health import Health
from jobrt.probes.loop import LoopSource
from jobrt.probes.report import Report, Reporter
from jobrt.testing import open_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Nap(jobrt.Job):
    """Job that fails, or runs for ever."""

    forever: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        if self.forever:
            await trio.sleep_forever()
        if ctx.job.attempt == 1:
            raise LookupError("no")


def parsed(
    families: Iterable[Family], accept: str = ""
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples as a parser reads them, by name and labels; no sample may be there twice."""
    text = exposition(families, accept)[0].decode()
    parse = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def labels(**given: str) -> frozenset[tuple[str, str]]:
    """Return labels as `parsed` has them."""
    return frozenset(given.items())


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_worker_tells_what_it_does(accept: str, autojump_clock: MockClock) -> None:
    """Attempts by end, histograms, slots, depth and age of queues, cancellations: in both formats of Prometheus."""
    async with open_app(jobs=[Nap], queues={"default": 2, "idle": 1}) as (app, jobs):
        reporter = Reporter(app)
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await (await jobs.enqueue(Nap())).wait()
            first, *_ = [await jobs.enqueue(Nap(forever=True)) for _ in range(5)]
            await trio.sleep(30)
            await jobs.cancel(first.id, "enough")
            await trio.sleep(5)
            found = parsed((await reporter.report()).families, accept)
            await worker.stop(grace=0)
    of = labels(job="Nap", queue="default")
    assert found["jobrt_attempts_total", of | labels(end="finished")] == 1
    assert found["jobrt_attempts_total", of | labels(end="failed")] == 1
    assert found["jobrt_attempts_total", of | labels(end="cancelled")] == 1
    assert found["jobrt_run_seconds_bucket", of | labels(le="0.005")] == 2
    assert found["jobrt_run_seconds_bucket", of | labels(le="+Inf")] == 3
    assert found["jobrt_wait_seconds_count", of] == 3
    assert found["jobrt_slots", labels(queue="default")] == 2
    assert found["jobrt_slots_busy", labels(queue="default")] == 2
    assert found["jobrt_queue_jobs", labels(queue="default", state="available")] == 2
    assert found["jobrt_queue_jobs", labels(queue="default", state="executing")] == 2
    assert 34 <= found["jobrt_queue_oldest_due_seconds", labels(queue="default")] <= 36
    assert found["jobrt_queue_workers", labels(queue="idle")] == 1
    assert found["jobrt_cancellations_total", labels(job="Nap", phase="received")] == 1
    assert found["jobrt_actor_restarts_total", labels(actor="queues/default/fetcher")] == 0
    assert found["jobrt_database_up", labels()] == 1
    assert found["jobrt_database_outages_total", labels()] == 0


async def test_queues_are_counted_at_most_every_five_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can load the database with requests."""
    async with open_app(jobs=[Nap]) as (app, _):
        reporter = Reporter(app)
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            calls = _count_calls(worker.storage, monkeypatch)
            for _ in range(10):
                async with trio.open_nursery() as crowd:
                    for _ in range(5):
                        crowd.start_soon(reporter.report)
                await trio.sleep(1)
            await worker.stop()
    assert len(calls) == 2


def _count_calls(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None
) -> list[int]:
    calls: list[int] = []
    own = type(storage.queues).all

    async def counted(self: object, *, limit: int | None = None) -> object:
        calls.append(1)
        if error is not None:
            raise error
        return await own(self, limit=limit)  # type: ignore[arg-type]

    monkeypatch.setattr(type(storage.queues), "all", counted)
    return calls


async def test_without_the_database_the_other_metrics_are_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those of the queues are missing."""
    async with open_app(jobs=[Nap]) as (app, _):
        reporter = Reporter(app)
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            _count_calls(worker.storage, monkeypatch, StorageUnavailable("away"))
            names = {family.name for family in (await reporter.report()).families}
            await worker.stop()
    assert "jobrt_slots" in names
    assert not any(name.startswith("jobrt_queue_j") for name in names)


async def test_the_programs_own_metrics_are_told_too() -> None:
    """What a job counts with prometheus-client is scraped with the rest. A collector that fails spoils nothing."""

    class Broken:
        def collect(self) -> list[object]:
            raise LookupError("broken")

        def describe(self) -> list[object]:
            return []

    sent = prometheus_client.Counter("shop_mails_sent", "Mails.", ["kind"])
    sent.labels("receipt").inc(3)
    broken = Broken()
    async with open_app(jobs=[Nap]) as (app, _), trio.open_nursery() as nursery:
        source = LoopSource(Reporter(app))
        nursery.start_soon(source.run)
        whole = await trio.to_thread.run_sync(lambda: source.ask(metrics=True))
        prometheus_client.REGISTRY.register(broken)  # type: ignore[arg-type]
        rest = await trio.to_thread.run_sync(lambda: source.ask(metrics=True))
        nursery.cancel_scope.cancel()
    prometheus_client.REGISTRY.unregister(broken)  # type: ignore[arg-type]
    prometheus_client.REGISTRY.unregister(sent)
    assert parsed(whole.families)["shop_mails_sent_total", labels(kind="receipt")] == 3
    assert parsed(rest.families)["jobrt_database_outages_total", labels()] == 0


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SAMPLES = st.dictionaries(st.tuples(TEXTS, TEXTS), st.floats(allow_nan=False), max_size=4)


def pairs(values: dict[tuple[str, str], float]) -> list[tuple[dict[str, str], float]]:
    """Return samples with two labels."""
    return [({"queue": queue, "job": job}, value) for (queue, job), value in values.items()]


@given(SAMPLES, SAMPLES, st.lists(TEXTS, max_size=3))
def test_any_label_survives_the_way_through_the_parent(
    first: dict[tuple[str, str], float], second: dict[tuple[str, str], float], problems: Sequence[str]
) -> None:
    """The report of a process is the same after its JSON, and the parser reads each label as it was."""
    reports = [
        Report(
            Health(dead=tuple(problems)),
            (gauge("jobrt_a", "A.", pairs(values)), counter("jobrt_b", "B.", ())),
        )
        for values in (first, second)
    ]
    read = [Report.from_json(report.to_json()) for report in reports]
    assert read == reports
    found = parsed(merge({"0": read[0].families, "1": read[1].families}))
    assert found == {
        ("jobrt_a", labels(queue=queue, job=job, process=process)): value
        for process, values in (("0", first), ("1", second))
        for (queue, job), value in values.items()
    }


def test_facts_about_the_database_are_told_once() -> None:
    """Each process would tell the same of the queues. A label of that name is renamed, as Prometheus does."""
    depth = gauge("jobrt_queue_jobs", "Jobs.", [({"queue": "mail"}, 3)])
    own = gauge("shop", "Own.", [({"process": "mine"}, 1)])
    found = parsed(merge({"0": [depth, own], "1": [depth]}))
    assert found == {
        ("jobrt_queue_jobs", labels(queue="mail")): 3,
        ("shop", labels(process="0", exported_process="mine")): 1,
    }


def test_queues_are_of_a_limited_number() -> None:
    """A client that makes queues up does not make the scrape endless."""
    many = [QueueView(QueueStatus(name=f"queue {number}"), 0, 0) for number in range(1200)]
    (depth, *_) = queue_families(many)
    assert len(depth.samples) == 5000
