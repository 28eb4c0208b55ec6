"""Connection of an app, or of a client without one, with OpenTelemetry."""

import time

import trio
from opentelemetry import metrics, trace

from jobrt import aio, blocking
from jobrt._core.arguments import refused
from jobrt._runtime.plan import installed_version
from jobrt.app import App
from jobrt.errors import InvalidSetting
from jobrt.otel.metrics import Metrics
from jobrt.otel.traces import Consumer, Producer


def instrument(
    app: App | aio.Client | blocking.Client,
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
        app: the app; `jobrt.django.app` for what Django's tasks enqueue and run. Programs without Trio instrument each
            `jobrt.aio.Client` or `jobrt.blocking.Client`, for its producer spans and their metrics.
        tracer_provider: where spans go; by default OpenTelemetry's global provider.
        meter_provider: where metrics go; by default OpenTelemetry's global provider.

    Raises:
        InvalidSetting: the app or client is instrumented already, or is neither.

    """
    version = installed_version()
    tracer = trace.get_tracer("jobrt", version, tracer_provider)
    numbers = Metrics(metrics.get_meter("jobrt", version, meter_provider))
    producer = Producer(tracer, numbers, time.monotonic)
    match app:
        case App():
            _instrument_app(app, tracer, numbers)
        case aio.Client():
            _refuse_again(app._hooks, "client")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - set here alone
            app._hooks.append(producer)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        case blocking.Client():
            _refuse_again(app._hook, "client")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            app._hook = producer.blocking  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        case _:
            raise refused(
                "otel.instrument: app",
                app,
                use="an App, or a client of jobrt.aio or jobrt.blocking",
                error=InvalidSetting,
            )


def _instrument_app(app: App, tracer: trace.Tracer, numbers: Metrics) -> None:
    _refuse_again(app._blocking_hook, "app")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - set here alone
    app._blocking_hook = Producer(tracer, numbers, time.monotonic).blocking  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    consumer = Consumer(tracer, numbers)
    app.around_enqueue(Producer(tracer, numbers, trio.current_time))
    app.around_attempt(consumer)
    app.events.subscribe(numbers)
    app.events.subscribe(consumer.note, routine=False)


def _refuse_again(hook: object, what: str) -> None:
    if hook:
        an = "an" if what == "app" else "a"
        raise InvalidSetting(
            f"otel.instrument: the {what} is instrumented already: call it once for {an} {what}"
        )
