"""What others see of a worker process: probes over HTTP, and the service manager."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import attrs
import click
import trio

from jobrt._core.worker_info import WorkerInfo
from jobrt._views.words import count_in_words
from jobrt.app import App
from jobrt.cli.systemd import ServiceManager
from jobrt.probes.health import Health
from jobrt.probes.loop import LoopSource, Source
from jobrt.probes.members import Member, MembersSource, MemberState, open_members
from jobrt.probes.report import Report, Reporter
from jobrt.probes.server import bind, respond_from, respond_with_reports, serving, url_of
from jobrt.probes.site import missing_extra

HTTP_VARIABLE: Final = "JOBRT_HTTP"
_LAST_PORT: Final = 65535
_logger = logging.getLogger("jobrt")


@attrs.frozen
class Address:
    """Host and port to listen on."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Return the address ``HOST:PORT``, with an IPv6 address in brackets; raise `click.BadParameter`."""
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+)):(?P<port>[0-9]{1,5})", text)
    if found is None or int(found["port"]) > _LAST_PORT:
        msg = f"{text!r} is not HOST:PORT: write it as 127.0.0.1:9464 or [::1]:9464"
        raise click.BadParameter(msg)
    return Address(found["v6"] or found["name"], int(found["port"]))


def _convert(_context: click.Context, _option: click.Parameter, value: str | None) -> Address | None:
    return None if value is None else parse_address(value)


HTTP_OPTION = click.option(
    "--http",
    callback=_convert,
    metavar="HOST:PORT",
    envvar=HTTP_VARIABLE,
    show_envvar=True,
    help="Answer /livez, /readyz and /metrics there; port 0 picks a free port. There is no access control.",
)
LISTENER_OPTION = click.option(
    "--probes", "probes_listener", type=int, hidden=True, help="Listening socket of the parent."
)


@attrs.frozen
class Viewers:
    """Who sees a process: a listening socket and a service manager, or neither.

    ``for_parent``: the socket is the parent process's, which gets whole reports.
    """

    listener: socket.socket | None = None
    manager: ServiceManager | None = None
    for_parent: bool = False

    @classmethod
    def of_process(cls, http: Address | None) -> Viewers:
        """Return the viewers of a process without a parent; say where it listens, and what is missing."""
        listener = None if http is None else bind(http.host, http.port)
        if listener is not None:
            _logger.info("probes and metrics at %s", url_of(listener))
            if missing := missing_extra():
                _logger.warning("%s", missing)
        return cls(listener, ServiceManager.from_environment())

    @classmethod
    def of_child(cls, descriptor: int | None) -> Viewers:
        """Return the viewers of a worker process, which has inherited a socket from its parent."""
        if descriptor is None:
            return cls()
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - processes that jobs start must not hold it
        return cls(socket.socket(fileno=descriptor), for_parent=True)

    @property
    def wanted(self) -> bool:
        """Whether anybody looks."""
        return self.listener is not None or self.manager is not None

    @contextmanager
    def served(self, source: Source) -> Generator[None]:
        """Answer over HTTP during a ``with`` block, if there is a listening socket."""
        with ExitStack() as stack:
            if self.listener is not None:
                respond = respond_with_reports(source) if self.for_parent else respond_from(source)
                stack.enter_context(serving(self.listener, respond))
            yield


async def show_worker(app: App, viewers: Viewers) -> None:
    """Let others see the app's workers in this process until cancelled."""
    if not viewers.wanted:
        return
    reporter = Reporter(app)
    source, manager = LoopSource(reporter), viewers.manager

    async def look() -> tuple[bool, str]:
        health = reporter.health()
        return not health.dead, _status(health, [worker.info() for worker in app.workers])

    with viewers.served(source), ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run)
            if manager is not None:
                stack.enter_context(app.events.subscribed(manager, routine=False))
                nursery.start_soon(manager.watch, look)


def _status(health: Health, infos: Sequence[WorkerInfo]) -> str:
    """Return the load and the problems of the workers in one line."""
    queues = [queue for info in infos for queue in info.queues.values()]
    running, slots = sum(queue.running for queue in queues), sum(queue.concurrency for queue in queues)
    load = f"{count_in_words(running, 'running job')}, {count_in_words(slots, 'slot')}"
    return "; ".join([*([load] if infos else []), *health.problems])


# ---------------------------------------------------------------------- a parent of several processes


@contextmanager
def members_of(viewers: Viewers, count: int) -> Generator[Sequence[Member | None]]:
    """Provide the sockets of worker processes; none if nobody looks."""
    if not viewers.wanted:
        yield [None] * count
        return
    with open_members(count) as members:
        yield members


async def show_processes(
    viewers: Viewers, members: Sequence[Member | None], look: Callable[[], Sequence[MemberState]]
) -> None:
    """Let others see the worker processes until cancelled."""
    if not viewers.wanted:
        return
    source, manager = (
        MembersSource([member for member in members if member is not None], look),
        viewers.manager,
    )
    ready = False

    async def look_at_all() -> tuple[bool, str]:
        nonlocal ready
        report: Report = await trio.to_thread.run_sync(lambda: source.ask(metrics=False))
        states = look()
        up = sum(state.state == "up" for state in states)
        if manager is not None and not ready and up == len(states):
            ready = True
            manager.send("READY=1")
        words = f"{up} of {len(states)} processes are up"
        return not report.health.dead, "; ".join([words, *report.health.problems])

    with viewers.served(source):
        if manager is None:
            await trio.sleep_forever()
        else:
            await manager.watch(look_at_all)
