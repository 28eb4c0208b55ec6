"""Metrics of an app: instruments of OpenTelemetry, and the events that they count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from opentelemetry import metrics

from jobrt import events as e
from jobrt._core.states import End
from jobrt.otel.conventions import DESTINATION, END, ERROR_TYPE, NAME, operation_attributes

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds that the conventions advise for durations, in seconds."""
_LONG: Final = (*_SECONDS, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Bounds for attempts and waits, which may take hours."""


@attrs.define(eq=False)
class Metrics:
    """Instruments of one app, and a subscriber of its events."""

    meter: metrics.Meter
    sent: metrics.Counter = attrs.field(init=False)
    send_seconds: metrics.Histogram = attrs.field(init=False)
    consumed: metrics.Counter = attrs.field(init=False)
    process_seconds: metrics.Histogram = attrs.field(init=False)
    wait_seconds: metrics.Histogram = attrs.field(init=False)
    running: metrics.UpDownCounter = attrs.field(init=False)
    ended: metrics.Counter = attrs.field(init=False)
    _counters: dict[type[e.Event], metrics.Counter] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        meter = self.meter
        self.sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Jobs that clients have enqueued."
        )
        self.send_seconds = _histogram(
            meter, "messaging.client.operation.duration", "Duration of enqueues.", bounds=_SECONDS
        )
        self.consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Attempts that have begun."
        )
        self.process_seconds = _histogram(
            meter, "messaging.process.duration", "Duration of attempts.", bounds=_LONG
        )
        self.wait_seconds = _histogram(
            meter, "jobrt.job.wait", "Time from when a job was due to when its attempt began.", bounds=_LONG
        )
        self.running = meter.create_up_down_counter(
            "jobrt.attempts.running", "{attempt}", "Attempts that run."
        )
        self.ended = meter.create_counter(
            "jobrt.attempts.ended", "{attempt}", "Attempts whose outcome is in the database."
        )
        self._counters = {
            kind: meter.create_counter(name, unit, text) for kind, (name, unit, text) in _COUNTED.items()
        }

    def __call__(self, event: e.Event) -> None:
        """Count an event."""
        if isinstance(event, e.JobEnded):
            labels = {NAME: event.name, DESTINATION: event.queue, END: event.end.value}
            self.ended.add(1, labels | {"jobrt.job.state": event.state.value})
            return
        counter = self._counters.get(type(event))
        if counter is not None:
            counter.add(1, _LABELS.get(type(event), _no_labels)(event))

    def note_sent(self, counts: dict[tuple[str, str], int], seconds: float) -> None:
        """Count jobs that were enqueued together, by queue and name."""
        for (queue, name), count in counts.items():
            self.sent.add(count, operation_attributes("send", queue, name))
        queues, names = {queue for queue, _ in counts}, {name for _, name in counts}
        common = operation_attributes(
            "send", queues.pop() if len(queues) == 1 else None, names.pop() if len(names) == 1 else None
        )
        self.send_seconds.record(seconds, common)

    def note_end(self, labels: dict[str, str], seconds: float, *, end: End, error: str | None) -> None:
        """Record the duration of an attempt."""
        extra = {END: end.value} if error is None else {END: end.value, ERROR_TYPE: error}
        self.process_seconds.record(seconds, labels | extra)


def _histogram(meter: metrics.Meter, name: str, text: str, *, bounds: tuple[float, ...]) -> metrics.Histogram:
    return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=bounds)


_COUNTED: Final[dict[type[e.Event], tuple[str, str, str]]] = {
    e.ActorRestarted: ("jobrt.actor.restarts", "{restart}", "Actors that failed and were restarted."),
    e.CronFailed: ("jobrt.cron.failures", "{failure}", "Errors of cron entries, each counted once."),
    e.CronFired: ("jobrt.cron.ticks", "{tick}", "Ticks of cron entries that enqueued a job."),
    e.JobCancelPhase: ("jobrt.job.cancellations", "{phase}", "Phases of cancellations of running jobs."),
    e.JobNotBegun: ("jobrt.hook.failures", "{report}", "Reports of hooks that keep jobs from running."),
    e.JobRescued: ("jobrt.job.rescues", "{job}", "Jobs of dead workers that were rescued."),
    e.JobStuck: ("jobrt.job.stuck", "{job}", "Jobs that the watchdog has reported."),
    e.OutcomeLost: ("jobrt.outcome.losses", "{outcome}", "Outcomes that the database does not accept."),
    e.OutcomeRefused: ("jobrt.outcome.refusals", "{outcome}", "Outcomes refused because the lease was lost."),
    e.QueueStalled: ("jobrt.queue.stalls", "{stall}", "Queues that did not claim their due jobs."),
    e.StorageDown: ("jobrt.storage.outages", "{outage}", "Outages of the database."),
    e.WorkerFenced: ("jobrt.worker.fences", "{fence}", "Workers that could not renew their lease in time."),
}
"""Events that are counted: name, unit and description of the instrument."""


def _no_labels(_event: e.Event) -> dict[str, str]:
    return {}


def _label(field: str, attribute: str) -> Callable[[e.Event], dict[str, str]]:
    return lambda event: {attribute: str(getattr(event, field))}


_LABELS: Final[dict[type[e.Event], Callable[[e.Event], dict[str, str]]]] = {
    e.ActorRestarted: _label("child", "jobrt.actor.name"),
    e.CronFailed: _label("name", "jobrt.cron.name"),
    e.CronFired: _label("name", "jobrt.cron.name"),
    e.JobCancelPhase: _label("phase", "jobrt.cancel.phase"),
    e.JobNotBegun: _label("hook", "jobrt.hook.name"),
    e.JobRescued: _label("queue", DESTINATION),
    e.JobStuck: _label("why", "jobrt.job.stuck.reason"),
    e.QueueStalled: _label("queue", DESTINATION),
}
"""Attributes of the counts. None has a value of which there is one for each job."""
