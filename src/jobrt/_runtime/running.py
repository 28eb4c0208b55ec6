"""Attempts under way."""

from collections.abc import Mapping

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import Claimed, JobRef
from jobrt._registry import JobDefinition


@attrs.define(eq=False)
class Running:
    """Attempt under way: its job, its cancel scope, and why it was cancelled, if it was.

    The scope is the attempt's own while it runs; a scope that was not cancelled serves the executor's next
    attempt, too.
    """

    job: Claimed
    definition: JobDefinition
    scope: trio.CancelScope
    started: float
    task: trio.lowlevel.Task
    stop: Stop | None = None
    stopped_at: float | None = None
    reason: str = ""
    limited: bool = False
    """A deadline was set."""
    completed: bool = False
    """Its own transaction has written the outcome."""
    abandoned: bool = False
    """The process is about to exit: its end was reported already."""
    over: float | None = None
    ref: JobRef = attrs.field(init=False)
    """The claim, for fenced writes."""

    def __attrs_post_init__(self) -> None:
        self.ref = JobRef(self.job.id, self.job.lease)

    @property
    def cancelled(self) -> bool:
        """Whether the scope was cancelled. To ask the scope costs a call of the clock, so that is avoided."""
        return (self.limited or self.stop is not None) and self.scope.cancel_called

    def cancel(self, stop: Stop, reason: str) -> bool:
        """Cancel the attempt; the first reason given is the one recorded. Return whether this was the first.

        Once it is over this does nothing: the scope may be another attempt's by then.
        """
        if self.stop is not None or self.over is not None:
            return False
        self.stop, self.reason, self.stopped_at = stop, reason, trio.current_time()
        self.scope.cancel(reason=reason or stop.value)
        return True


@attrs.frozen(kw_only=True)
class ExecutorsStatistics:
    """Snapshot of the executors of a queue.

    ``waiting``: claimed jobs that have not started. ``finished``: ended attempts. ``names``: the number of running
    attempts of each job. ``durations``: the number of ended attempts of each job, and their seconds together.
    """

    concurrency: int
    running: tuple[Running, ...]
    waiting: int
    finished: int
    names: Mapping[str, int]
    durations: Mapping[str, tuple[int, float]]
