"""Questions to the event loop from the threads of the server."""

from __future__ import annotations

import logging
import math
import queue
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import attrs
import trio

from jobrt.probes.health import Health
from jobrt.probes.report import Report, Reporter
from jobrt.probes.site import own_metrics

ANSWER_SECONDS: Final = 0.8
"""Time limit for an answer of the event loop. Kubernetes gives a probe one second by default."""
METRICS_SECONDS: Final = 3.0
"""The same for metrics: counting the jobs of the queues may take two seconds, and Prometheus waits for ten."""
T = TypeVar("T")
_log = logging.getLogger("jobrt.probes")


class Source(Protocol):
    """What a server asks, from any thread."""

    def ask(self, *, metrics: bool) -> Report:
        """Return the report of this moment, with its families if `metrics` are wanted; wait for a limited time."""
        ...


def dead(problem: str) -> Report:
    """Return the report of a process that cannot tell one itself."""
    return Report(Health(dead=(problem,)))


class LoopSilent(Exception):
    """Raised when an event loop does not answer; the text says why."""


def call_in_loop(token: trio.lowlevel.TrioToken, function: Callable[[], T], *, seconds: float) -> T:
    """Call a function in the event loop and return its result, from another thread.

    Raises:
        LoopSilent: the loop did not answer within some seconds, has ended, or the function failed.

    """
    reply = queue.SimpleQueue[tuple[T] | None]()

    def call() -> None:  # in Trio's callback an exception would end the whole program
        try:
            reply.put((function(),))
        except Exception:  # noqa: BLE001 - see above
            _log.exception("the state of the process cannot be told")
            reply.put(None)

    try:
        token.run_sync_soon(call)
        found = reply.get(timeout=seconds)
    except trio.RunFinishedError:
        raise LoopSilent("the event loop has ended") from None
    except queue.Empty:
        raise LoopSilent(f"the event loop did not answer within {seconds:g} s: it is blocked") from None
    if found is None:
        raise LoopSilent("the state of the process cannot be told: the log says more")
    return found[0]


@attrs.define(eq=False)
class LoopSource:
    """Source whose reports are made in the event loop; create it there."""

    reporter: Reporter
    _token: trio.lowlevel.TrioToken = attrs.Factory(trio.lowlevel.current_trio_token)
    _questions: Any = attrs.field(factory=lambda: trio.open_memory_channel[Any](math.inf))

    def ask(self, *, metrics: bool) -> Report:
        """Return the report; a loop that does not answer is dead."""
        try:
            health = call_in_loop(self._token, self.reporter.health, seconds=ANSWER_SECONDS)
            return self._ask_for_metrics() if metrics else Report(health)
        except LoopSilent as error:
            return dead(str(error))

    def _ask_for_metrics(self) -> Report:
        reply = queue.SimpleQueue[Report]()
        ask = partial(self._questions[0].send_nowait, reply)
        call_in_loop(self._token, ask, seconds=ANSWER_SECONDS)
        try:
            report = reply.get(timeout=METRICS_SECONDS)
        except queue.Empty:
            return dead(f"the event loop did not answer within {METRICS_SECONDS:g} s")
        if not report.families:  # it says why there are none
            return report
        return attrs.evolve(report, families=(*report.families, *own_metrics()))

    async def run(self) -> None:
        """Answer questions for metrics until cancelled."""
        async for reply in self._questions[1]:
            try:
                report = await self.reporter.report()
            except Exception:  # noqa: BLE001 - an error here must not end the worker
                _log.exception("the metrics of the worker cannot be told")
                report = dead("the metrics of the worker cannot be told: the log says more")
            reply.put(report)
