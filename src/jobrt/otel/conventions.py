"""Names and attributes of spans and metrics, by OpenTelemetry's semantic conventions for messaging (1.38).

A queue is the destination, a job the message, an enqueue the operation ``send``, an attempt the operation ``process``.
What the conventions have no name for begins with ``jobrt.``.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jobrt._core.attempts import END_OF_STOP, Stop, only_leaf
from jobrt._core.results import After, Cancel, Discard, Snooze
from jobrt._core.states import End
from jobrt._core.text import in_one_line, type_name
from jobrt._records import JobRecord
from jobrt._registry import JobWithOptions

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
NAME: Final = "jobrt.job.name"
ATTEMPT: Final = "jobrt.attempt.number"
END: Final = "jobrt.attempt.end"

PROPAGATOR: Final = TraceContextTextMapPropagator()
TRACEPARENT: Final = "traceparent"
_CARRIED: Final = (TRACEPARENT, "tracestate")
"""Keys of a job's metadata that carry the trace."""


def span_name(operation: str, queue: str | None) -> str:
    """Return ``process mail``, or the operation alone if it is about several queues."""
    return operation if queue is None else f"{operation} {queue}"


def operation_attributes(operation: str, queue: str | None, name: str | None) -> dict[str, str]:
    """Return the attributes of an operation; of those about several queues or jobs, what they have in common."""
    attributes = {SYSTEM: "jobrt", OPERATION: operation, OPERATION_TYPE: operation}
    if queue is not None:
        attributes[DESTINATION] = queue
    if name is not None:
        attributes[NAME] = name
    return attributes


def in_common(jobs: Sequence[JobWithOptions[object]]) -> tuple[str | None, str | None]:
    """Return the queue and the name that all jobs have, if all have the same."""
    queues, names = {job.queue for job in jobs}, {job.name for job in jobs}
    return (queues.pop() if len(queues) == 1 else None), (names.pop() if len(names) == 1 else None)


def origin_of(metadata: Mapping[str, object]) -> trace.SpanContext | None:
    """Return the span that has enqueued a job, from its metadata, which may have anything in it."""
    carrier = {key: text for key in _CARRIED if isinstance(text := metadata.get(key), str)}
    if not carrier:
        return None
    found = trace.get_current_span(PROPAGATOR.extract(carrier)).get_span_context()
    return found if found.is_valid else None


def is_first(job: JobRecord) -> bool:
    """Return whether nothing of a job has run before: its attempt is a child of the enqueue, later ones are linked."""
    return job.attempt <= 1 and not job.attempts


def end_of(returned: object) -> End:
    """Return how an attempt ends that has returned."""
    match returned:
        case Snooze() | After():
            return End.SNOOZED
        case Cancel():
            return End.CANCELLED
        case Discard():
            return End.FAILED
        case _:
            return End.FINISHED


def end_of_stop(cancelled: tuple[Stop, str] | None) -> End:
    """Return how an attempt ends that was cancelled; without a reason of its own, the worker was stopped."""
    return End.INTERRUPTED if cancelled is None else END_OF_STOP[cancelled[0]]


def set_error(span: trace.Span, error: BaseException) -> None:
    """Set the status of a span to an error, whatever the exception's class does."""
    leaf = only_leaf(error)
    span.set_attribute(ERROR_TYPE, type_name(leaf))
    span.set_status(trace.Status(trace.StatusCode.ERROR, in_one_line(leaf)))
    span.record_exception(leaf)
