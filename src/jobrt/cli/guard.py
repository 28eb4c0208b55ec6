"""Guard: a small process that kills a worker that cannot end itself.

A C function that does not return and keeps Python's lock, such as a regular expression in a thread, stops every
thread of a process. Then no Python code can react to a signal. But Python's handler in C still writes the number of
each signal to a socket (`signal.set_wakeup_fd`), and the guard reads that socket, too.

The file is run as a program of its own, without jobrt and other packages, so that it starts fast and stays small. It
is not needed where a parent process kills its workers. The worker uses the same rule: `exit_at`.
"""

import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

EXIT_SECONDS = 4.4
"""Seconds after the grace period after which a worker exits, whatever its jobs do."""
_GUARD_SECONDS = 0.3
"""Seconds that a worker has beyond its time, until it is killed: together less than five."""
_INTERVAL = 0.05
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGINT)})


def exit_at(stops: Sequence[float], grace: float, *, seconds: float = EXIT_SECONDS) -> float:
    """Return when a process must be gone that was told to stop at these times.

    After the first time it has its grace and some seconds. The second ends the grace, the third is the end.
    """
    if not stops:
        return math.inf
    return min([stops[0] + grace + seconds, *(stop + seconds for stop in stops[1:2]), *stops[2:3]])


def peek(received: socket.socket) -> bytes | None:
    """Return what a socket has received, and leave it there; None for nothing, ``b""`` for the end."""
    try:
        return received.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def count_stops(received: bytes) -> int:
    """Return how many of the received numbers are those of signals to stop."""
    return sum(number in STOP_SIGNALS for number in received)


def outlives_its_time(received: socket.socket, *, grace: float, worker: int) -> bool:
    """Wait until the worker has ended, or should have; return whether it still runs."""
    stops: list[float] = []
    poller = select.poll()
    poller.register(received, select.POLLIN)
    while os.getppid() == worker:  # else it has ended, and its number may be another process's
        if not stops:
            poller.poll()
        time.sleep(_INTERVAL)  # the worker removes other signals, and a signal to stop remains
        numbers = peek(received)
        if numbers == b"":
            return False
        now = time.monotonic()
        stops += [now] * (count_stops(numbers or b"") - len(stops))
        if now >= exit_at(stops, grace) + _GUARD_SECONDS:
            return os.getppid() == worker
    return False


def main(arguments: Sequence[str]) -> None:
    """Guard the parent process."""
    for number in (
        *STOP_SIGNALS,
        signal.SIGHUP,
    ):  # a service manager sends them to all processes of a service
        signal.signal(number, signal.SIG_IGN)
    descriptor, grace, worker = int(arguments[0]), float(arguments[1]), int(arguments[2])
    with socket.socket(fileno=descriptor) as received:
        if outlives_its_time(received, grace=grace, worker=worker):
            os.kill(worker, signal.SIGKILL)
            reason = "no Python code could run in it; its jobs run again when its lease expires"
            sys.stderr.write(f"jobrt: killed worker process {worker}, which did not end in time: {reason}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
