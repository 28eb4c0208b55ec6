"""Server for probes: HTTP/1.0 in threads, so that it answers while a job blocks the event loop."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from jobrt.errors import JobrtError
from jobrt.probes.loop import Source
from jobrt.probes.site import PATHS, Answer, answer, lost_answer

_SILENCE: Final = 5.0
"""Seconds of silence after which a connection is closed."""
_MOST_CONNECTIONS: Final = 64
"""Connections at once. One more closes the oldest, so that a crowd cannot silence the probes."""
_BACKLOG: Final = 128
_PAUSE: Final = 0.1
"""Seconds without a new connection after one could not be accepted, as when there are too many open files."""

Respond = Callable[[str, str], Answer]
"""Function that answers a path and the ``Accept`` header of a request."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        JobrtError: nobody can listen there; the message says why.

    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno is not None and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno)  # Python's text has the address, too
        msg = f"cannot listen on {host}, port {port}: {reason}; use another --http HOST:PORT"
        raise JobrtError(msg) from error


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def respond_from(source: Source) -> Respond:
    """Return the function that answers the public paths from a source."""

    def respond(path: str, accept: str) -> Answer:
        if path not in PATHS:
            return lost_answer(path)
        return answer(path, source.ask(metrics=path == "/metrics"), accept=accept)

    return respond


def respond_with_reports(source: Source) -> Respond:
    """Return the function with which a worker process answers its parent: the whole report, as JSON."""

    def respond(path: str, _accept: str) -> Answer:
        report = source.ask(metrics=path == "/metrics")
        return Answer(200, report.to_json().encode(), "application/json")

    return respond


@contextmanager
def serving(listener: socket.socket, respond: Respond) -> Generator[None]:
    """Serve during a ``with`` block, and close the listening socket."""
    server = _Server(listener, respond)
    threading.Thread(target=server.run, name="jobrt probes", daemon=True).start()
    _listening.add(listener)
    try:
        yield
    finally:
        _listening.discard(listener)
        server.stop()


_listening: set[socket.socket] = set()


def _close_in_fork() -> None:
    """Close what a forked process does not serve: otherwise it would hold the port when the worker has ended."""
    for listener in _listening:
        listener.close()
    _listening.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)


@attrs.define(eq=False)
class _Server:
    """Thread that accepts connections, each of which is served by a thread of its own."""

    listener: socket.socket
    respond: Respond
    _stop: threading.Event = attrs.Factory(threading.Event)
    _bell: tuple[socket.socket, socket.socket] = attrs.Factory(socket.socketpair)
    _open: dict[int, socket.socket] = attrs.Factory(dict)
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    def run(self) -> None:
        """Accept connections until `stop`."""
        self.listener.settimeout(0)
        with selectors.DefaultSelector() as selector, self.listener, self._bell[1]:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self._bell[1], selectors.EVENT_READ)
            while not self._stop.is_set():
                selector.select()
                try:
                    connection, _ = self.listener.accept()
                except BlockingIOError:
                    continue
                except OSError:  # too many open files, or the client has gone
                    self._stop.wait(_PAUSE)
                else:
                    self._begin(connection)

    def stop(self) -> None:
        """Accept no more connections. Those that are open end by themselves: their threads are daemons."""
        self._stop.set()
        self._bell[0].close()

    def _begin(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._open) >= _MOST_CONNECTIONS:
                oldest = self._open.pop(next(iter(self._open)))
                with suppress(OSError):  # it has just been closed
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread ends, and closes it
            self._open[id(connection)] = connection
        try:
            threading.Thread(target=self._serve, args=(connection,), name="jobrt probe", daemon=True).start()
        except RuntimeError:  # no more threads
            self._end(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):  # the client has gone, or was silent
                connection.settimeout(_SILENCE)
                _Handler(self.respond, connection)
        finally:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(id(connection), None)
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    """Handler of one request; it does its work when it is created."""

    server_version = "jobrt"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"

    def __init__(self, respond: Respond, connection: socket.socket) -> None:
        self._respond = respond
        server: Any = None  # the base class only keeps it
        super().__init__(connection, ("", 0), server)

    def do_GET(self) -> None:
        """Answer a GET request."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer a HEAD request."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        try:
            path = urlsplit(self.path).path
        except ValueError:
            path = self.path
        found = self._respond(path, self.headers.get("accept", ""))
        self.send_response(found.status)
        self.send_header("content-type", found.content_type)
        self.send_header("content-length", str(len(found.body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing: a probe every few seconds is no news."""
