"""Connection of an app with OpenTelemetry."""

from opentelemetry import metrics, trace

from jobrt._runtime.plan import installed_version
from jobrt.app import App
from jobrt.errors import InvalidSetting
from jobrt.otel.metrics import Metrics
from jobrt.otel.traces import Consumer, Producer


def instrument(
    app: App,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Make spans and metrics for all that an app enqueues and runs in this process from now on.

    Call it before workers start, and before other hooks are registered: theirs are then within the spans. It makes

    * a producer span for each enqueue, whose ``traceparent`` is in the metadata of its jobs;
    * a consumer span for each attempt: the first is a child of the enqueue, later ones are linked with it;
    * a span for each step that is done, and span events for the phases of a cancellation and restarts of actors;
    * metrics by OpenTelemetry's conventions for messaging, and others that begin with ``jobrt.``.

    Args:
        app: the app.
        tracer_provider: where spans go; by default OpenTelemetry's global provider.
        meter_provider: where metrics go; by default OpenTelemetry's global provider.

    Raises:
        InvalidSetting: the app is instrumented already.

    """
    if any(isinstance(hook, Consumer) for hook in app.attempt_hooks):
        raise InvalidSetting("otel.instrument: the app is instrumented already: call it once for an app")
    version = installed_version()
    tracer = trace.get_tracer("jobrt", version, tracer_provider)
    numbers = Metrics(metrics.get_meter("jobrt", version, meter_provider))
    consumer = Consumer(tracer, numbers)
    app.around_enqueue(Producer(tracer, numbers))
    app.around_attempt(consumer)
    app.events.subscribe(numbers)
    app.events.subscribe(consumer.note, routine=False)
