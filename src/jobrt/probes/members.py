"""Reports of worker processes, for the parent that speaks for all of them."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from jobrt.probes.families import Family, counter, gauge, merge
from jobrt.probes.health import Health
from jobrt.probes.loop import ANSWER_SECONDS, METRICS_SECONDS, LoopSilent, call_in_loop, dead
from jobrt.probes.report import Report

_EXTRA_SECONDS: Final = 0.1
"""Seconds that the parent waits beyond the limit of its processes."""
_BACKLOG: Final = 16


@attrs.frozen
class MemberState:
    """Worker process as its parent sees it: ``state`` is ``"up"``, ``"starting"`` or ``"down"``, and ``why``."""

    name: str
    state: str
    why: str = ""
    restarts: int = 0


@attrs.frozen
class Member:
    """Place where a worker process tells its report: a listening Unix socket that it inherits from its parent."""

    path: str
    listener: socket.socket


@contextmanager
def open_members(count: int) -> Generator[Sequence[Member]]:
    """Provide the sockets for some processes, in a directory that only this user can read."""
    directory = tempfile.mkdtemp(prefix="jobrt-")
    with ExitStack() as stack:
        stack.callback(partial(shutil.rmtree, directory, ignore_errors=True))
        members: list[Member] = []
        for number in range(count):
            path = str(Path(directory, str(number)))
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(_BACKLOG)
            members.append(Member(path, listener))
        yield members


@attrs.frozen(eq=False)
class MembersSource:
    """Source that asks all worker processes; create it in the event loop of their parent.

    ``look`` is called in that loop and returns the states of the processes in the order of the members.
    """

    members: Sequence[Member]
    look: Callable[[], Sequence[MemberState]]
    _token: trio.lowlevel.TrioToken = attrs.Factory(trio.lowlevel.current_trio_token)

    def ask(self, *, metrics: bool) -> Report:
        """Return the report of all processes."""
        try:
            states = call_in_loop(self._token, self.look, seconds=ANSWER_SECONDS / 2)
        except LoopSilent as error:
            return dead(f"the parent process: {error}")
        pairs = zip(states, self.members, strict=True)
        up = {state.name: member for state, member in pairs if state.state == "up"}
        found = _ask_all(up, metrics=metrics)
        families = (*_parent_families(states), *merge({name: one.families for name, one in found.items()}))
        return Report(_health(states, found), families if metrics else ())


def _health(states: Sequence[MemberState], found: Mapping[str, Report]) -> Health:
    """Return the health of all processes: dead if any is, ready if all are."""
    dead, unready = list[str](), list[str]()
    for state in states:
        match state.state:
            case "up":
                health = found[state.name].health
                dead += [f"process {state.name}: {problem}" for problem in health.dead]
                unready += [f"process {state.name}: {problem}" for problem in health.unready]
            case "down":
                dead.append(f"process {state.name} is down: {state.why}")
            case _:
                unready.append(f"process {state.name} is {state.state}")
    return Health(tuple(dead), tuple(unready))


def _parent_families(states: Sequence[MemberState]) -> tuple[Family, ...]:
    up = [({"process": state.name}, float(state.state == "up")) for state in states]
    restarts = [({"process": state.name}, state.restarts) for state in states]
    return (
        gauge("jobrt_process_up", "Whether the worker process is up.", up),
        counter("jobrt_process_restarts", "Restarts of the worker process after it died.", restarts),
    )


def _ask_all(members: Mapping[str, Member], *, metrics: bool) -> dict[str, Report]:
    """Ask processes at the same time: send each the question, then read the answers."""
    deadline = time.monotonic() + (METRICS_SECONDS if metrics else ANSWER_SECONDS) + _EXTRA_SECONDS
    found: dict[str, Report] = {}
    with ExitStack() as stack:
        asked = {name: _Question(stack.enter_context(socket.socket(socket.AF_UNIX))) for name in members}
        for name, question in asked.items():
            question.send(members[name].path, b"/metrics" if metrics else b"/livez", deadline)
        for name, question in asked.items():
            found[name] = question.answer(deadline)
    return found


@attrs.define(eq=False)
class _Question:
    """Question to a process over a connection of its own."""

    connection: socket.socket
    problem: str = ""

    def send(self, path: str, target: bytes, deadline: float) -> None:
        """Connect and send the request; the socket's backlog takes it, whatever the process does."""
        try:
            self._limit(deadline)
            self.connection.connect(path)
            self.connection.sendall(b"GET %b HTTP/1.0\r\n\r\n" % target)
        except OSError as error:
            self.problem = f"it cannot be asked: {error.strerror or error}"

    def answer(self, deadline: float) -> Report:
        """Read the answer, up to the end of the connection."""
        if self.problem:
            return dead(self.problem)
        received = bytearray()
        try:
            while self._limit(deadline) and (chunk := self.connection.recv(1 << 16)):
                received += chunk
            return Report.from_json(received.partition(b"\r\n\r\n")[2].decode())
        except OSError:
            return dead("it does not answer: C code may keep Python's lock")
        except (LookupError, TypeError, ValueError):  # it ended in the middle of its answer
            return dead("its answer is incomplete")

    def _limit(self, deadline: float) -> bool:
        self.connection.settimeout(max(0.001, deadline - time.monotonic()))
        return True
