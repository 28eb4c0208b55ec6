"""Metrics: by the conventions for messaging, and what jobrt adds."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from opentelemetry.sdk.metrics.export import Histogram
from trio.testing import MockClock

import jobrt
from jobrt import events
from jobrt.otel.metrics import _COUNTED, _LABELS  # pyright: ignore[reportPrivateUsage]
from jobrt.testing import drain, open_app
from tests.otel.recording import Recording
from tests.runtime.test_worker import working


class Work(jobrt.Job):
    """Job that takes three seconds, or fails."""

    QUEUE = "mail"
    fail: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        await trio.sleep(3)
        if self.fail:
            raise LookupError("no")


SEND = {"messaging.system": "jobrt", "messaging.operation.name": "send", "messaging.operation.type": "send"}
PROCESS = {key: value.replace("send", "process") for key, value in SEND.items()}
JOB = {"messaging.destination.name": "mail", "jobrt.job.name": "Work"}


def key(*parts: dict[str, Any]) -> frozenset[tuple[str, Any]]:
    """Return attributes as `Recording.points` has them."""
    return frozenset((name, value) for part in parts for name, value in part.items())


async def test_jobs_are_counted_and_timed(autojump_clock: MockClock) -> None:
    """Sent, consumed and ended jobs by queue, name and end; durations and waits as histograms."""
    recording = Recording()
    async with open_app([Work]) as (app, jobs):
        recording.instrument(app)
        await jobs.enqueue_many([Work(), Work(), Work(fail=True)])
        await drain(app)
    assert recording.points("messaging.client.sent.messages") == {key(SEND, JOB): 3}
    assert recording.points("messaging.client.operation.duration") == {key(SEND, JOB): 1}
    assert recording.points("messaging.client.consumed.messages") == {key(PROCESS, JOB): 3}
    failed = {"jobrt.attempt.end": "failed", "error.type": "LookupError"}
    assert recording.points("messaging.process.duration") == {
        key(PROCESS, JOB, {"jobrt.attempt.end": "finished"}): 2,
        key(PROCESS, JOB, failed): 1,
    }
    assert recording.points("jobrt.job.wait") == {key(PROCESS, JOB): 3}
    assert recording.points("jobrt.attempts.ended") == {
        key(JOB, {"jobrt.attempt.end": "finished", "jobrt.job.state": "completed"}): 2,
        key(JOB, {"jobrt.attempt.end": "failed", "jobrt.job.state": "retryable"}): 1,
    }
    assert recording.points("jobrt.attempts.running") == {key(PROCESS, JOB): 0}


async def test_what_runs_is_counted_while_it_runs(autojump_clock: MockClock) -> None:
    """The number goes up and down; durations are measured by Trio's clock."""
    recording = Recording()
    async with open_app([Work]) as (app, jobs):
        recording.instrument(app)
        async with working(app):
            handle = await jobs.enqueue(Work())
            await trio.sleep(1)
            assert recording.points("jobrt.attempts.running") == {key(PROCESS, JOB): 1}
            await handle.wait()
    data = recording.reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    histograms = {
        metric.name: metric.data.data_points[0]
        for metric in resource.scope_metrics[0].metrics
        if isinstance(metric.data, Histogram)
    }
    point = histograms["messaging.process.duration"]
    assert (point.sum, max(point.explicit_bounds)) == (pytest.approx(3, abs=0.01), 7200.0)


SAMPLES: dict[type[events.Event], tuple[Any, ...]] = {
    events.ActorRestarted: ("worker", "notifier", "gone", 0.5, 1),
    events.CronFailed: ("often", "no"),
    events.CronFired: ("often", "2030-01-01", 7),
    events.JobCancelPhase: (7, "Work", "received", "enough"),
    events.JobNotBegun: (7, "Work", "shop.timed", "failed"),
    events.JobRescued: (7, "Work", "mail", "w", jobrt.State.RETRYABLE),
    events.JobStuck: (7, "Work", "slow", 9.0),
    events.OutcomeLost: (7, "Work", 1, None, "no"),
    events.OutcomeRefused: (7, "Work", 1, jobrt.End.FINISHED),
    events.QueueStalled: ("mail", 5, 1),
    events.StorageDown: ("gone",),
    events.WorkerFenced: ("w", 9.0),
}


@pytest.mark.parametrize("kind", _COUNTED, ids=lambda kind: kind.__name__)
def test_other_events_are_counted(kind: type[events.Event]) -> None:
    """Restarts, cancellations, rescues and the like; no attribute has an id, of which there is no end."""
    recording = Recording()
    app = jobrt.App("sqlite:///:memory:")
    recording.instrument(app)
    app.events(kind(*SAMPLES[kind]))
    ((labels, value),) = recording.points(_COUNTED[kind][0]).items()
    assert value == 1
    assert len(labels) == (kind in _LABELS)
    assert "7" not in {str(text) for _, text in labels}


def test_every_counted_event_is_public() -> None:
    """The tables name events that there are, and label only what is counted."""
    assert _COUNTED.keys() == SAMPLES.keys()
    assert _LABELS.keys() <= _COUNTED.keys()
