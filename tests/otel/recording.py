"""Apps whose spans and metrics stay in memory."""

from __future__ import annotations

from typing import Any

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import jobrt
from jobrt.otel import instrument


@attrs.define
class Recording:
    """Spans and metrics of an instrumented app."""

    tracers: TracerProvider = attrs.Factory(lambda: TracerProvider(shutdown_on_exit=False))
    exporter: InMemorySpanExporter = attrs.Factory(InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.Factory(InMemoryMetricReader)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def instrument(self, app: jobrt.App) -> None:
        """Instrument an app."""
        instrument(app, self.tracers, self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans with this name, in the order of their starts."""
        found = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """Return the only span with this name."""
        (span,) = self.spans(name)
        return span

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Return the values of a metric by their attributes: numbers, or for histograms the number of values."""
        data = self.reader.get_metrics_data()
        points: dict[frozenset[tuple[str, Any]], Any] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            value: Any = point
                            key = frozenset((point.attributes or {}).items())
                            points[key] = getattr(value, "value", None) or getattr(value, "count", 0)
        return points


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span."""
    return dict(span.attributes or {})
