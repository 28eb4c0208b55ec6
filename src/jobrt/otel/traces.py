"""Hooks that make spans: of producers around enqueues, of consumers around attempts, and of steps within."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import attrs
import trio
from opentelemetry import trace
from opentelemetry.context import Context as TraceContext

from jobrt import events as e
from jobrt._client import Handle
from jobrt._core.attempts import only_leaf
from jobrt._core.states import End
from jobrt._core.text import type_name
from jobrt._records import JobRecord
from jobrt._registry import JobWithOptions
from jobrt._runtime.context import Context
from jobrt.otel.conventions import (
    ATTEMPT,
    BATCH,
    END,
    MESSAGE_ID,
    PROPAGATOR,
    TRACEPARENT,
    end_of,
    end_of_stop,
    in_common,
    is_first,
    operation_attributes,
    origin_of,
    set_error,
    span_name,
)
from jobrt.otel.metrics import Metrics

_IDS: Final = 128
"""Ids of jobs that the span of one enqueue has."""


@attrs.define(eq=False)
class Producer:
    """Hook around enqueues: a span for each, and its ``traceparent`` in the metadata of its jobs.

    ``clock`` is that of the event loop or of the thread, in seconds.
    """

    tracer: trace.Tracer
    metrics: Metrics
    clock: Callable[[], float]

    async def __call__(
        self,
        jobs: Sequence[JobWithOptions[Any]],
        enqueue: Callable[[Sequence[Any]], Awaitable[Sequence[Handle[Any]]]],
    ) -> Sequence[Handle[Any]]:
        """Enqueue within a span."""
        if not jobs:
            return await enqueue(jobs)
        with self._sending(jobs) as span:
            handles = await enqueue(_carrying(jobs))
            _describe(span, handles)
        return handles

    def blocking(
        self, jobs: Sequence[JobWithOptions[Any]], enqueue: Callable[[Sequence[Any]], Sequence[_Stored]]
    ) -> Sequence[_Stored]:
        """Do the same in a thread."""
        if not jobs:
            return enqueue(jobs)
        with self._sending(jobs) as span:
            handles = enqueue(_carrying(jobs))
            _describe(span, handles)
        return handles

    @contextmanager
    def _sending(self, jobs: Sequence[JobWithOptions[Any]]) -> Generator[trace.Span]:
        """Make the span current, and count what was sent."""
        queue, name = in_common(jobs)
        attributes = operation_attributes("send", queue, name)
        began = self.clock()
        with _span(
            self.tracer, span_name("send", queue), trace.SpanKind.PRODUCER, attributes=attributes
        ) as span:
            if len(jobs) > 1:
                span.set_attribute(BATCH, len(jobs))
            try:
                yield span
            except Exception as error:
                set_error(span, error)
                raise
        self.metrics.note_sent(Counter((job.queue, job.name) for job in jobs), self.clock() - began)


class _Stored(Protocol):
    """Handle of any client."""

    @property
    def id(self) -> int: ...
    @property
    def duplicate(self) -> bool: ...


def _carrying(jobs: Sequence[JobWithOptions[Any]]) -> Sequence[JobWithOptions[Any]]:
    """Return the jobs with the current span in their metadata, unless a caller has put another one there."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier)
    if not carrier:  # without an SDK, or with one that makes no spans
        return jobs
    return [
        job if TRACEPARENT in job.metadata else job.with_options(metadata={**job.metadata, **carrier})
        for job in jobs
    ]


def _describe(span: trace.Span, handles: Sequence[_Stored]) -> None:
    if not span.is_recording():
        return
    if len(handles) == 1:
        span.set_attribute(MESSAGE_ID, str(handles[0].id))
    else:
        span.set_attribute("jobrt.job.ids", [handle.id for handle in handles[:_IDS]])
    duplicates = sum(handle.duplicate for handle in handles)
    if duplicates:
        span.set_attribute("jobrt.enqueue.duplicates", duplicates)


@attrs.define(eq=False)
class Consumer:
    """Hook around attempts: a span for each, and a subscriber that adds events to the spans that are open."""

    tracer: trace.Tracer
    metrics: Metrics
    _open: dict[int, trace.Span] = attrs.Factory(dict)
    """Spans of the running attempts, by the id of their job."""

    async def __call__(self, ctx: Context, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run an attempt within a span."""
        job, began = ctx.job, trio.current_time()
        labels = operation_attributes("process", job.queue, job.name)
        attributes: dict[str, Any] = labels | {MESSAGE_ID: str(job.id), ATTEMPT: job.attempt}
        parent, links = _family(job)
        ctx.around_steps(self._step)
        self._note_start(job, labels)
        end, error = End.INTERRUPTED, None
        try:
            with _span(
                self.tracer,
                span_name("process", job.queue),
                trace.SpanKind.CONSUMER,
                attributes=attributes,
                context=parent,
                links=links,
            ) as span:
                self._open[job.id] = span
                try:
                    returned = await run()
                except BaseException as raised:
                    end, error = _ended(span, ctx, raised)
                    raise
                end = end_of(returned)
                span.set_attribute(END, end.value)
        finally:
            self._open.pop(job.id, None)
            self.metrics.running.add(-1, labels)
            self.metrics.note_end(labels, trio.current_time() - began, end=end, error=error)
        return returned

    def _note_start(self, job: JobRecord, labels: dict[str, str]) -> None:
        self.metrics.consumed.add(1, labels)
        self.metrics.running.add(1, labels)
        if job.started_at is not None:
            waited = (job.started_at - job.schedule_at).total_seconds()
            self.metrics.wait_seconds.record(max(0.0, waited), labels)

    @contextmanager
    def _step(self, name: str) -> Generator[None]:
        with self.tracer.start_as_current_span(f"step {name}", attributes={"jobrt.step.name": name}):
            yield

    def note(self, event: e.Event) -> None:
        """Add an event to the span of its job; the restart of an actor, to the spans of all running attempts."""
        match event:
            case e.JobCancelPhase():
                self._add(event.id, "jobrt.cancel", {"phase": event.phase, "reason": event.reason})
            case e.JobStuck():
                self._add(event.id, "jobrt.stuck", {"why": event.why, "stack": event.stack})
            case e.ActorRestarted():
                attributes: dict[str, str | float] = {
                    "supervisor": event.supervisor,
                    "actor": event.child,
                    "error": event.error,
                    "delay": event.delay,
                }
                for job_id in self._open:
                    self._add(job_id, "jobrt.restart", attributes)
            case _:
                pass

    def _add(self, job_id: int, name: str, attributes: dict[str, str | float]) -> None:
        span = self._open.get(job_id)
        if span is not None:
            span.add_event(name, {f"{name}.{key}": value for key, value in attributes.items()})


def _family(job: JobRecord) -> tuple[TraceContext, list[trace.Link]]:
    """Return the parent of an attempt's span and its links.

    The first attempt is a child of the enqueue. Later ones are traces of their own, linked with it: they may come days
    later. Never is the span of the program that runs the worker a parent.
    """
    origin, nothing = origin_of(job.metadata), TraceContext()
    if origin is None:
        return nothing, []
    if is_first(job):
        return trace.set_span_in_context(trace.NonRecordingSpan(origin), nothing), []
    return nothing, [trace.Link(origin)]


def _ended(span: trace.Span, ctx: Context, error: BaseException) -> tuple[End, str | None]:
    """Describe on a span how an attempt ended that raised; return its end, and the type of its error if it is one."""
    stopped = ctx.cancelled is not None or not isinstance(error, Exception | SystemExit)
    end = end_of_stop(ctx.cancelled) if stopped else End.FAILED
    span.set_attribute(END, end.value)
    if end is End.FAILED:
        set_error(span, error)
        return end, type_name(only_leaf(error))
    if ctx.cancelled is not None:
        span.set_attribute("jobrt.cancel.reason", ctx.cancelled[1])
    if end is not End.TIMED_OUT:
        return end, None
    span.set_attribute("error.type", end.value)
    span.set_status(trace.Status(trace.StatusCode.ERROR, "timed out"))
    return end, end.value


@contextmanager
def _span(tracer: trace.Tracer, name: str, kind: trace.SpanKind, **given: Any) -> Generator[trace.Span]:
    """Make a span current for a block; whoever opens it describes its errors, a cancellation is none."""
    with tracer.start_as_current_span(
        name, kind=kind, record_exception=False, set_status_on_exception=False, **given
    ) as span:
        yield span
