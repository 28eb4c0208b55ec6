"""Spans: of enqueues, attempts and steps, and how they belong together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan
from trio.testing import MockClock

import jobrt
import jobrt.aio
from jobrt import events
from jobrt.blocking import Client
from jobrt.testing import drain, open_app, perform
from tests.otel.recording import Recording, attributes
from tests.runtime.test_worker import working
from tests.support.in_asyncio import in_asyncio


class Echo(jobrt.Job):
    """Job that returns the trace and span in which it runs."""

    QUEUE = "mail"

    async def run(self, ctx: jobrt.Context) -> Any:
        return current()


class InThread(jobrt.Job):
    """The same in a thread."""

    QUEUE = "mail"

    def run(self, ctx: jobrt.Context) -> Any:
        return current()


class InAsyncio(jobrt.Job):
    """The same under asyncio."""

    QUEUE = "mail"
    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> Any:
        return current()


class Parent(jobrt.Job):
    """Job that enqueues another."""

    async def run(self, ctx: jobrt.Context) -> None:
        await ctx.enqueue(Echo())


class Fail(jobrt.Job):
    """Job that fails at its first attempt."""

    async def run(self, ctx: jobrt.Context) -> Any:
        if ctx.job.attempt == 1:
            raise LookupError("not yet")
        return current()


class Steps(jobrt.Job):
    """Job with two steps, the second of which fails at the first attempt."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.step("one") as step:
            step.value = current()
        async with ctx.step("two"):
            if ctx.job.attempt == 1:
                raise LookupError("not yet")


class Forever(jobrt.Job):
    """Job that takes six seconds to stop, or ends with its scope."""

    clean_up: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self.clean_up:
                with trio.CancelScope(shield=True):
                    await trio.sleep(6)


class Verdict(jobrt.Job):
    """Job that ends with a verdict."""

    kind: str

    async def run(self, ctx: jobrt.Context) -> Any:
        return {
            "snooze": jobrt.Snooze(60), "cancel": jobrt.Cancel("enough"), "discard": jobrt.Discard("no use")
        }[self.kind]  # fmt: skip


def current() -> list[int]:
    """Return trace and span that are current."""
    found = trace.get_current_span().get_span_context()
    return [found.trace_id % 10**9, found.span_id % 10**9]


def ids(span: ReadableSpan) -> list[int]:
    """Return trace and span, as `current` does."""
    context = span.get_span_context()
    assert context is not None
    return [context.trace_id % 10**9, context.span_id % 10**9]


@pytest.mark.parametrize("job", [Echo, InThread, InAsyncio])
async def test_an_attempt_is_a_child_of_its_enqueue(job: type[jobrt.Job], autojump_clock: MockClock) -> None:
    """Its span is current in the job wherever it runs; both have the attributes of the conventions."""
    recording = Recording()
    async with open_app([job]) as (app, jobs):
        recording.instrument(app)
        with recording.tracers.get_tracer("program").start_as_current_span("request"):
            handle = await jobs.enqueue(job(), metadata={"a": 1})
        with recording.tracers.get_tracer("program").start_as_current_span("worker's program"):
            await drain(app)
        record = await jobs.get(handle.id)
    request, send, process = (recording.span(name) for name in ("request", "send mail", "process mail"))
    assert send.parent == request.get_span_context()
    assert (process.parent and process.parent.span_id) == (send.context and send.context.span_id)
    assert record.result == ids(process)
    assert record.metadata.keys() == {"a", "traceparent"}
    assert (send.kind, process.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    both = {
        "messaging.system": "jobrt", "messaging.destination.name": "mail",
        "messaging.message.id": str(handle.id), "jobrt.job.name": job.__name__,
    }  # fmt: skip
    sending = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    processing = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert attributes(send) == both | sending
    ended = {"jobrt.attempt.number": 1, "jobrt.attempt.end": "finished"}
    assert attributes(process) == both | processing | ended
    assert process.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize("library", ["asyncio", "threads"])
async def test_programs_without_trio_hand_their_span_on(library: str, sqlite_url: str) -> None:
    """Without instrumentation they put what OpenTelemetry injects into the metadata, as for any message."""
    recording = Recording()
    tracer = recording.tracers.get_tracer("program")

    def carrier() -> dict[str, str]:
        carried: dict[str, str] = {}
        propagate.inject(carried)
        return carried

    def in_a_thread() -> None:
        with tracer.start_as_current_span("request"), Client(sqlite_url) as jobs:
            jobs.enqueue(Echo(), metadata=carrier())

    async def on_asyncio() -> None:
        async with jobrt.aio.Client(sqlite_url) as jobs:
            with tracer.start_as_current_span("request"):
                await jobs.enqueue(Echo(), metadata=carrier())

    app = jobrt.App(sqlite_url, jobs=[Echo])
    recording.instrument(app)
    if library == "asyncio":
        await in_asyncio(on_asyncio)
    else:
        await trio.to_thread.run_sync(in_a_thread)
    with trio.fail_after(30):
        await app.drain()
    request, process = recording.span("request"), recording.span("process mail")
    assert process.parent is not None
    assert [process.parent.trace_id % 10**9, process.parent.span_id % 10**9] == ids(request)
    assert ids(process)[0] == ids(request)[0]


def parent_id(span: ReadableSpan) -> int | None:
    """Return the id of the span's parent, if it has one."""
    return None if span.parent is None else span.parent.span_id


async def enqueue_by(library: str, url: str, recording: Recording) -> None:
    """Enqueue one job, two jobs, and one that is refused, with an instrumented client of a program without Trio."""
    tracer = recording.tracers.get_tracer("program")

    def in_a_thread() -> None:
        jobs = Client(url, payload_limit=1000)
        jobrt.otel.instrument(jobs, recording.tracers, recording.meters)
        with jobs, tracer.start_as_current_span("request"):
            assert jobs.enqueue(Echo(), metadata={"mine": 1}).id == 1
            assert [handle.id for handle in jobs.enqueue_many([Echo(), Fail()])] == [2, 3]
            assert jobs.enqueue_many([]) == []
            with pytest.raises(jobrt.InvalidJob):
                jobs.enqueue(Fail(), metadata={"a": "x" * 2000})

    async def on_asyncio() -> None:
        jobs = jobrt.aio.Client(url, payload_limit=1000)
        jobrt.otel.instrument(jobs, recording.tracers, recording.meters)
        with tracer.start_as_current_span("request"):
            async with jobs:
                assert (await jobs.enqueue(Echo(), metadata={"mine": 1})).id == 1
                assert [handle.id for handle in await jobs.enqueue_many([Echo(), Fail()])] == [2, 3]
                assert await jobs.enqueue_many([]) == []
                with pytest.raises(jobrt.InvalidJob):
                    await jobs.enqueue(Fail(), metadata={"a": "x" * 2000})

    with trio.fail_after(30):
        if library == "asyncio":
            await in_asyncio(on_asyncio)
        else:
            await trio.to_thread.run_sync(in_a_thread)


@pytest.mark.parametrize("library", ["asyncio", "threads"])
async def test_clients_without_trio_have_producer_spans(library: str, database_url: str) -> None:
    """They are as those of an app: one for each enqueue, parents of the attempts, counted by the meters."""
    recording = Recording()
    app = jobrt.App(database_url, jobs=[Echo, Fail])
    await app.migrate()
    await enqueue_by(library, database_url, recording)
    recording.instrument(app)
    with trio.fail_after(30):
        await app.drain()
        async with app.open_client() as jobs:
            metadata = [(await jobs.get(number)).metadata for number in (1, 2)]
    request, one, many = recording.span("request"), recording.span("send mail"), recording.span("send")
    assert [parent_id(span) for span in (one, many)] == [request.get_span_context().span_id] * 2
    assert one.kind is trace.SpanKind.PRODUCER
    assert attributes(one)["messaging.message.id"] == "1"
    assert attributes(many)["messaging.batch.message_count"] == 2
    assert attributes(many)["jobrt.job.ids"] == (2, 3)
    senders = [span.get_span_context().span_id for span in (one, many)]
    parents = {
        attributes(span)["messaging.message.id"]: parent_id(span) for span in recording.spans("process mail")
    }
    assert parents == dict(zip(("1", "2"), senders, strict=True))
    assert [sorted(each) for each in metadata] == [["mine", "traceparent"], ["traceparent"]]
    refused = recording.span("send default")
    assert attributes(refused)["error.type"] == "InvalidJob"
    assert sum(recording.points("messaging.client.sent.messages").values()) == 3


async def test_a_job_without_a_trace_begins_one(autojump_clock: MockClock) -> None:
    """The span in which the program runs its worker is no parent: it lasts as long as the worker."""
    recording = Recording()
    async with open_app([Echo]) as (app, jobs):
        await jobs.enqueue(Echo())
        recording.instrument(app)
        with recording.tracers.get_tracer("program").start_as_current_span("worker's program"):
            await drain(app)
    span = recording.span("process mail")
    assert (span.parent, span.links) == (None, ())


async def test_children_are_below_their_parent(autojump_clock: MockClock) -> None:
    """One trace leads from the enqueue of the parent to the attempt of the child."""
    recording = Recording()
    async with open_app([Parent, Echo]) as (app, jobs):
        recording.instrument(app)
        await jobs.enqueue(Parent())
        await drain(app)
    chain = ["send default", "process default", "send mail", "process mail"]
    spans = [recording.span(name) for name in chain]
    assert [span.parent and span.parent.span_id for span in spans[1:]] == [
        span.context and span.context.span_id for span in spans[:-1]
    ]
    assert len({span.context and span.context.trace_id for span in spans}) == 1


async def test_later_attempts_are_linked(autojump_clock: MockClock) -> None:
    """A retry is a trace of its own, with a link to the enqueue; the failed one has the error."""
    recording = Recording()
    async with open_app([Fail]) as (app, jobs):
        recording.instrument(app)
        async with working(app):
            handle = await jobs.enqueue(Fail())
            await handle.wait()
    send = recording.span("send default")
    first, second = recording.spans("process default")
    assert (first.parent and first.parent.span_id) == (send.context and send.context.span_id)
    assert second.parent is None
    assert [link.context.span_id for link in second.links] == [send.context and send.context.span_id]
    assert [attributes(span)["jobrt.attempt.number"] for span in (first, second)] == [1, 2]
    assert (first.status.status_code, first.status.description) == (
        trace.StatusCode.ERROR,
        "LookupError: not yet",
    )
    assert attributes(first)["error.type"] == "LookupError"
    assert [event.name for event in first.events] == ["exception"]


async def test_steps_are_spans(autojump_clock: MockClock) -> None:
    """Each step that is done is one, below its attempt; one that was done before is none."""
    recording = Recording()
    async with open_app([Steps]) as (app, jobs):
        recording.instrument(app)
        async with working(app):
            await (await jobs.enqueue(Steps())).wait()
    first, second = recording.spans("process default")
    one, failed, done = recording.span("step one"), *recording.spans("step two")
    parents = [span.parent and span.parent.span_id for span in (one, failed, done)]
    assert parents == [span.context and span.context.span_id for span in (first, first, second)]
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert attributes(one) == {"jobrt.step.name": "one"}


async def test_a_batch_has_one_span(autojump_clock: MockClock) -> None:
    """It says how many jobs it was; each attempt is its child; of several queues it names none."""
    recording = Recording()
    async with open_app([Echo, Fail]) as (app, jobs):
        recording.instrument(app)
        await jobs.enqueue_many([Echo() for _ in range(3)])
        await jobs.enqueue_many([Echo(), Fail()])
        assert await jobs.enqueue_many([]) == []
        await drain(app)
    same, mixed = recording.span("send mail"), recording.span("send")
    assert attributes(same)["messaging.batch.message_count"] == 3
    assert attributes(same)["jobrt.job.ids"] == (1, 2, 3)
    assert "messaging.destination.name" not in attributes(mixed)
    parents = [span.parent and span.parent.span_id for span in recording.spans("process mail")]
    assert parents.count(same.context and same.context.span_id) == 3


async def test_the_metadata_of_the_caller_goes_first(autojump_clock: MockClock) -> None:
    """Who passes on a trace from elsewhere keeps it; what is no trace is no parent."""
    recording = Recording()
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_app([Echo]) as (app, jobs):
        recording.instrument(app)
        for traceparent in (given, "nonsense", 7):
            await jobs.enqueue(Echo(), metadata={"traceparent": traceparent})
        await drain(app)
    parents = {span.parent and f"{span.parent.span_id:x}" for span in recording.spans("process mail")}
    assert parents == {"b7ad6b7169203331", None}


async def test_the_phases_of_a_cancellation_are_events(autojump_clock: MockClock) -> None:
    """A job that takes long to stop shows it on its span; the end is no error."""
    recording = Recording()
    async with open_app([Forever]) as (app, jobs):
        recording.instrument(app)
        async with working(app):
            handle = await jobs.enqueue(Forever(clean_up=True))
            while (await jobs.get(handle.id)).state is not jobrt.State.EXECUTING:
                await trio.sleep(0.01)
            await jobs.cancel(handle.id, "enough")
            await handle.wait()
    span = recording.span("process default")
    phases = [
        (event.attributes or {})["jobrt.cancel.phase"] for event in span.events if "cancel" in event.name
    ]
    assert phases == ["received", "cleaning", "stuck"]
    assert attributes(span)["jobrt.attempt.end"] == "cancelled"
    assert attributes(span)["jobrt.cancel.reason"] == "enough"
    assert span.status.status_code is trace.StatusCode.UNSET


async def test_restarts_are_events_on_what_runs(autojump_clock: MockClock) -> None:
    """Whoever looks at a slow attempt sees that its worker was not well."""
    recording = Recording()
    async with open_app([Forever]) as (app, jobs):
        recording.instrument(app)
        async with working(app) as worker:
            handle = await jobs.enqueue(Forever())
            while (await jobs.get(handle.id)).state is not jobrt.State.EXECUTING:
                await trio.sleep(0.01)
            app.events(events.ActorRestarted("worker", "notifier", "OSError: gone", 0.5, 1))
            await worker.stop(grace=0)
    span = recording.span("process default")
    (event,) = span.events
    assert event.name == "jobrt.restart"
    assert (event.attributes or {})["jobrt.restart.actor"] == "notifier"
    assert attributes(span)["jobrt.attempt.end"] == "interrupted"


async def test_a_timeout_is_an_error(autojump_clock: MockClock) -> None:
    """Its span says so, as the record does."""
    recording = Recording()
    async with open_app([Forever]) as (app, jobs):
        recording.instrument(app)
        await jobs.enqueue(Forever(), timeout=2, max_attempts=1)
        await drain(app)
    span = recording.span("process default")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert attributes(span)["error.type"] == attributes(span)["jobrt.attempt.end"] == "timed_out"


@pytest.mark.parametrize(
    ("kind", "end"), [("snooze", "snoozed"), ("cancel", "cancelled"), ("discard", "failed")]
)
async def test_verdicts_are_ends(kind: str, end: str, autojump_clock: MockClock) -> None:
    """The span has the end that the record has."""
    recording = Recording()
    async with open_app([Verdict]) as (app, jobs):
        recording.instrument(app)
        handle = await jobs.enqueue(Verdict(kind))
        await drain(app)
        assert [attempt.end.value for attempt in (await jobs.get(handle.id)).attempts] == [end]
    assert attributes(recording.span("process default"))["jobrt.attempt.end"] == end


async def test_a_refused_enqueue_is_an_error(autojump_clock: MockClock) -> None:
    """Its span has the error, and the caller too."""
    recording = Recording()
    async with open_app([Echo], payload_limit=1000) as (app, jobs):
        recording.instrument(app)
        with pytest.raises(jobrt.InvalidJob):
            await jobs.enqueue(Echo(), metadata={"a": "x" * 2000})
    assert attributes(recording.span("send mail"))["error.type"] == "InvalidJob"


async def test_a_duplicate_is_shown(autojump_clock: MockClock) -> None:
    """A span tells that nothing new was stored."""
    recording = Recording()
    async with open_app([Echo]) as (app, jobs):
        recording.instrument(app)
        for _ in range(2):
            await jobs.enqueue(Echo(), unique=jobrt.Unique())
    duplicates = [attributes(span).get("jobrt.enqueue.duplicates") for span in recording.spans("send mail")]
    assert duplicates == [None, 1]


async def test_perform_has_a_span(autojump_clock: MockClock) -> None:
    """A test of a user can look at the spans of one job."""
    recording = Recording()
    app = jobrt.App("sqlite:///:memory:", jobs=[Echo])
    recording.instrument(app)
    assert await perform(Echo(), app=app) == ids(recording.span("process mail"))


async def test_without_an_sdk_nothing_is_added(autojump_clock: MockClock) -> None:
    """The API alone makes no spans, and the metadata stays as it is."""
    async with open_app([Echo]) as (app, jobs):
        jobrt.otel.instrument(app)
        handle = await jobs.enqueue(Echo())
        await drain(app)
        assert (await jobs.get(handle.id)).metadata == {}


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: jobrt.App("sqlite:///:memory:"), "app is instrumented already: call it once for an app"),
        (lambda: Client("sqlite:///x.db"), "client is instrumented already: call it once for a client"),
        (lambda: jobrt.aio.Client("sqlite:///x.db"), "client is instrumented already"),
    ],
)
def test_nothing_is_instrumented_twice(made: Callable[[], Any], what: str) -> None:
    """A second call would double every span."""
    one = made()
    jobrt.otel.instrument(one)
    with pytest.raises(jobrt.InvalidSetting, match=what):
        jobrt.otel.instrument(one)


def test_what_cannot_be_instrumented() -> None:
    """One line says what can."""
    with pytest.raises(
        jobrt.InvalidSetting, match=r"otel\.instrument: app is 'shop': use an App, or a client"
    ):
        jobrt.otel.instrument("shop")  # type: ignore[arg-type]


@pytest.mark.process
def test_the_extra_is_named() -> None:
    """Without OpenTelemetry, one line says what to install."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None; import jobrt\n"
        "try: jobrt.otel\nexcept ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "jobrt.otel needs opentelemetry: pip install 'jobrt[otel]'\n"
