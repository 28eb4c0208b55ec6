"""Run one attempt of a job: decode, run in a scope of its own, say how it ended."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.attempts import Ended, Stop, classify, decide
from jobrt._core.job import Outcome
from jobrt._core.results import After, Cancel, Discard, Snooze
from jobrt._core.retry import delay_for, should_retry
from jobrt._core.states import End, Event
from jobrt._events import Emitter, JobStarted
from jobrt._registry import UndecodablePayload, encode_result
from jobrt._runtime.context import Context, Services, record_of
from jobrt._runtime.running import Running
from jobrt.errors import InvalidJob, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jobrt._core.job import Claimed
    from jobrt._registry import JobDefinition
    from jobrt._runtime.queue_state import QueueState

__all__ = ["Attempts"]

_NOTHING: Any = object()

if TYPE_CHECKING:
    Runner = Callable[[JobDefinition, Any, Context], Awaitable[Any]]
    Report = Callable[[Outcome, Claimed, float], None]


@attrs.define(eq=False)
class Attempts:
    """Run attempts for one worker; stateless but for what it is given."""

    definitions: Mapping[str, JobDefinition]
    runners: Mapping[str, Runner]
    services: Services
    report: Report
    written: Report
    emit: Emitter
    chance: Callable[[], float] = random.random

    async def perform(self, job: Claimed, queue: QueueState) -> None:
        """Run one attempt from claim to outcome. Only a bug in jobrt, or `BaseException`, comes out of here."""
        definition = self.definitions[job.name]
        running = Running(
            job, definition, trio.CancelScope(), trio.current_time(), trio.lowlevel.current_task()
        )
        queue.running[job.id] = running
        if self.emit.subscribers:
            self.emit(JobStarted(job.id, job.name, job.queue, job.attempt, job.lease))
        outcome: Outcome | None = None
        try:
            outcome = await self._attempt(running)
        finally:
            if outcome is None:  # cancelled from outside, or a BaseException on its way through
                outcome = decide(
                    job, classify(None, running.stop or Stop.SHUTDOWN, running.note), retry=True, delay=0
                )
            seconds = trio.current_time() - running.started
            if running.completed:
                self.written(Outcome(job.id, job.lease), job, seconds)
            elif not running.abandoned:
                self.report(outcome, job, seconds)
            queue.ended(job)

    async def _attempt(self, running: Running) -> Outcome:
        """Decode, run, classify."""
        job = running.job
        ctx = Context(running, self.services)
        try:
            value = running.definition.decode(job.args)
            limit = self._limit(running)
            if limit is not None:  # setting a deadline costs 6 µs, a quarter of what an attempt may cost
                running.scope.deadline = running.started + limit
        except UndecodablePayload as error:
            return self._failed(running, attrs.evolve(classify(error, None), end=End.UNDECODABLE))
        except Exception as error:  # noqa: BLE001 - a TIMEOUT function of the user's
            return self._failed(running, classify(error, None))
        returned: Any = _NOTHING
        problem: BaseException | None = None
        try:
            with running.scope:
                returned = await self.runners[running.definition.run_in](running.definition, value, ctx)
        except (Exception, BaseExceptionGroup, SystemExit) as error:  # a job must not end the worker
            problem = error
            if _outer_cancellation(error):
                raise
        if ctx.progress_due:
            await ctx.flush_progress()
        if problem is None and returned is not _NOTHING:
            return self._returned(running, returned)
        return self._failed(running, self._classify(running, problem))

    def _limit(self, running: Running) -> float | None:
        """Return the seconds that the attempt may take: the job's own, else its class's."""
        if running.job.timeout is not None:
            return running.job.timeout
        limit = running.definition.timeout
        if limit is None or isinstance(limit, (int, float)):
            return limit
        decided = limit(record_of(running.job))
        return decided.total_seconds() if isinstance(decided, timedelta) else decided

    def _classify(self, running: Running, problem: BaseException | None) -> Ended:
        stop, note = running.stop, running.note
        if stop is None and running.scope.cancel_called:
            limit = running.scope.deadline - running.started
            stop, note = Stop.TIMEOUT, f"no end within the time limit of {limit:g} s"
        if stop is None and isinstance(problem, LeaseLost):
            stop = Stop.LEASE_LOST
        return classify(problem, stop, note)

    def _returned(self, running: Running, value: Any) -> Outcome:
        """Return what the value that `run` returned means."""
        job = running.job
        match value:
            case None:
                return Outcome(job.id, job.lease)
            case Snooze(delay):
                seconds = delay.total_seconds()
                return Outcome(job.id, job.lease, Event.SNOOZE, End.SNOOZED, seconds, spent=False)
            case After(children):
                return Outcome(job.id, job.lease, Event.SNOOZE, End.SNOOZED, spent=False, children=children)
            case Cancel(reason):
                return Outcome(job.id, job.lease, Event.CANCEL, End.CANCELLED, message=reason)
            case Discard(reason):
                error_type = "Discard"
                return Outcome(
                    job.id, job.lease, Event.DISCARD, End.FAILED, error_type=error_type, message=reason
                )
            case _:
                try:
                    return Outcome(job.id, job.lease, result=encode_result(value))
                except InvalidJob as error:
                    return self._failed(running, classify(error, None))

    def _failed(self, running: Running, ended: Ended) -> Outcome:
        """Ask the job's RETRY and BACKOFF, and decide."""
        definition, job = running.definition, running.job
        if ended.end not in {End.FAILED, End.TIMED_OUT, End.UNDECODABLE}:
            return decide(job, ended, retry=True, delay=0.0)
        error = ended.error if isinstance(ended.error, Exception) else TimeoutError(ended.message)
        answer = should_retry(definition.retry, attempt=job.attempt, error=error)
        delay = delay_for(
            definition.backoff, attempt=job.attempt, error=error, record=record_of(job), chance=self.chance
        )
        warnings = [text for text in (answer.warning, delay.warning) if text]
        if warnings:
            ended = attrs.evolve(ended, message="; ".join([ended.message or "", *warnings]))
        return decide(job, ended, retry=answer.retry, delay=delay.wait.total_seconds())


def _outer_cancellation(error: BaseException) -> bool:
    """Say whether somebody above is being cancelled, or the program ends: that is not the job's to swallow."""
    if isinstance(error, BaseExceptionGroup):
        return any(_outer_cancellation(one) for one in error.exceptions)
    return isinstance(error, (trio.Cancelled, KeyboardInterrupt))
