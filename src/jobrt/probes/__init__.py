"""Probes and metrics of the workers in a process, over HTTP: ``/livez``, ``/readyz``, ``/metrics``.

::

    site        the answer to a path; `asgi`, to mount it in a program of your own
    report      what one process tells, as a value       health      who is dead or unready, and why
    families    numbers as plain families                exposition  prometheus-client, if it is installed
    server      HTTP in threads                          loop        asking the event loop from a thread
    members     asking worker processes for their parent

The probes need nothing else. Metrics need an extra: ``pip install 'jobrt[prometheus]'``. `design/probes.md` says what
each path promises.
"""

from jobrt.probes.site import asgi

__all__ = ["asgi"]
