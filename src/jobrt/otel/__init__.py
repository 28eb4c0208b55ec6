"""OpenTelemetry for jobrt: spans for enqueues, attempts and steps, and metrics.

::

    instrument     `instrument`: connects an app with OpenTelemetry
    traces         hooks that make the spans, and events on them
    metrics        instruments, and the events that they count
    conventions    names and attributes, by OpenTelemetry's conventions for messaging

It needs an extra: ``pip install 'jobrt[otel]'``. `design/telemetry.md` gives the reasons for its design.
"""

try:
    from jobrt.otel.instrument import instrument
except ModuleNotFoundError as _error:
    _name = (_error.name or "").partition(".")[0]
    if _name == "jobrt":
        raise
    raise ModuleNotFoundError(
        f"jobrt.otel needs {_name}: pip install 'jobrt[otel]'", name=_error.name
    ) from _error

__all__ = ["instrument"]
