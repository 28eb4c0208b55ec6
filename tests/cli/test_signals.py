"""Signals to stop: how they are counted, and when a process must be gone."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from jobrt.cli import guard, worker
from jobrt.cli.guard import count_stops, exit_at, outlives_its_time, peek
from jobrt.cli.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMES = st.lists(st.floats(0, 1e6), max_size=6).map(sorted)
GRACES = st.floats(0, 1e6) | st.just(math.inf)


@given(TIMES, GRACES)
def test_a_further_signal_never_gives_more_time(stops: list[float], grace: float) -> None:
    """The first sets the time, the second ends the grace, the third is the end."""
    times = [exit_at(stops[:count], grace) for count in range(len(stops) + 1)]
    assert times == sorted(times, reverse=True)
    assert times[0] == math.inf
    if len(stops) > 1:
        assert times[2] <= stops[1] + guard.EXIT_SECONDS
    if len(stops) > 2:
        assert times[3] <= stops[2]


def test_each_limit_is_below_the_next() -> None:
    """Jobs are given back before the process exits, and that before it is killed, within five seconds."""
    given_back = worker._CLEANUP_SECONDS + worker._ABANDON_SECONDS
    killed = guard.EXIT_SECONDS + guard._GUARD_SECONDS
    assert 3.5 < worker._CLEANUP_SECONDS < given_back < guard.EXIT_SECONDS < killed < 5


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: the receiving one, and the sending one."""
    received, sent = socket.socketpair()
    with received, sent:
        received.settimeout(0)
        yield received, sent


def test_numbers_are_counted_and_left(pair: tuple[socket.socket, socket.socket]) -> None:
    """Two readers count the same, each number that was sent on its own included."""
    received, sent = pair
    assert peek(received) is None
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        sent.send(bytes([number]))
    for _ in range(2):
        assert count_stops(peek(received) or b"") == 2
    received.recv(100)
    sent.close()
    assert peek(received) == b""


def test_a_guard_ends_with_its_process(pair: tuple[socket.socket, socket.socket]) -> None:
    """A process whose end of the socket is closed has ended, and is not to be killed."""
    received, sent = pair
    sent.close()
    assert not outlives_its_time(received, grace=1000, worker=os.getppid())
    assert not outlives_its_time(received, grace=0, worker=-1)


def test_a_guard_sees_a_process_that_outlives_its_time(pair: tuple[socket.socket, socket.socket]) -> None:
    """Signals of others are removed by the process sooner or later, and do not count."""
    received, sent = pair
    sent.send(bytes([signal.SIGUSR1]))
    found: list[bool] = []

    def watch() -> None:
        found.append(outlives_its_time(received, grace=1000, worker=os.getppid()))

    thread = threading.Thread(target=watch)
    thread.start()
    sent.send(bytes([signal.SIGTERM, signal.SIGINT]))
    sent.send(bytes([signal.SIGTERM]))
    thread.join(60)
    assert found == [True]


async def test_signals_are_heard_and_handlers_put_back() -> None:
    """Signals to stop are counted. Trio gets those of others. Afterwards everything is as before."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopSignals(grace=1000)
    with trio.fail_after(60), trio.open_signal_receiver(signal.SIGUSR1) as others:
        with stop.listening(guarded=True):
            for count, number in enumerate((signal.SIGTERM, signal.SIGINT), start=1):
                os.kill(os.getpid(), signal.SIGUSR1)
                assert await anext(others) == signal.SIGUSR1
                os.kill(os.getpid(), number)
                assert await stop.wait() == count
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await anext(others) == signal.SIGUSR1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_signal_to_a_forked_process_is_not_the_workers() -> None:
    """A job may fork, as `multiprocessing` does, and terminate its process. The worker goes on."""
    stop = StopSignals(grace=1000)
    with trio.fail_after(60), stop.listening(guarded=False):
        forked, ready = os.pipe()
        child = os.fork()
        if not child:
            os.write(ready, b"!")
            select.select([], [], [], 20)
            os._exit(1)
        await trio.to_thread.run_sync(os.read, forked, 1)
        os.kill(child, signal.SIGTERM)
        os.close(forked)
        os.close(ready)
        status = await trio.to_thread.run_sync(os.waitpid, child, 0)
        assert os.WTERMSIG(status[1]) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert await stop.wait() == 1
        assert count_stops(peek(stop._sockets[0]) or b"") == 1


async def test_a_parents_requests_and_signals_are_not_added_up(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """What reaches both, as from a terminal, counts once. The end of the parent is a request."""
    received, sent = pair
    stop = StopSignals(grace=1000, parent=received)
    with trio.fail_after(60), stop.listening(guarded=False):
        sent.send(b"\n")
        assert await stop.wait() == 1
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert await stop.wait() == 2
    orphan = StopSignals(grace=1000, parent=received)
    received.recv(100)
    with trio.fail_after(60), orphan.listening(guarded=False):
        sent.close()
        assert await orphan.wait() == 1
