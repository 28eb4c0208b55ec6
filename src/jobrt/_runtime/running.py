"""Hold one attempt that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import JobRef

if TYPE_CHECKING:
    from jobrt._core.job import Claimed
    from jobrt._registry import JobDefinition
    from jobrt._runtime.queue_state import QueueState

__all__ = ["Running"]


@attrs.define(eq=False)
class Running:
    """An attempt under way: its job, its cancel scope, and why it was told to stop, if it was.

    The scope is the attempt's own while it runs; a scope that was not cancelled serves the executor's next
    attempt, too.
    """

    job: Claimed
    definition: JobDefinition
    queue: QueueState
    scope: trio.CancelScope
    started: float
    task: trio.lowlevel.Task
    stop: Stop | None = None
    stopped_at: float | None = None
    limited: bool = False
    """A deadline was set."""
    note: str = ""
    completed: bool = False
    """Its own transaction has written the outcome."""
    abandoned: bool = False
    """The process is about to exit: somebody else has reported it."""
    reported: frozenset[str] = frozenset()
    cleaning: bool = False
    """It was cancelled a while ago and goes on: it cleans up, one hopes."""
    over: float | None = None
    ref: JobRef = attrs.field(init=False)
    """Names the claim, for fenced writes."""

    def __attrs_post_init__(self) -> None:
        self.ref = JobRef(self.job.id, self.job.lease)

    @property
    def cancelled(self) -> bool:
        """Whether the scope was cancelled. To ask the scope costs a look at the clock, so that is rarely done."""
        return (self.limited or self.stop is not None) and self.scope.cancel_called

    @property
    def phase(self) -> str | None:
        """Return how far an operator's wish to cancel it has come; None if there is none."""
        if self.stop is not Stop.OPERATOR:
            return None
        return "stuck" if "uncancellable" in self.reported else "cleaning" if self.cleaning else "received"

    def cancel(self, stop: Stop, note: str) -> bool:
        """Cancel the attempt; the first reason given is the one recorded. Says whether this was the first.

        Once it is over this does nothing: the scope may be another attempt's by then.
        """
        if self.stop is not None or self.over is not None:
            return False
        self.stop, self.note, self.stopped_at = stop, note, trio.current_time()
        self.scope.cancel(reason=note or stop.value)
        return True
