"""Runs of single attempts: decode the arguments, run the job, decide the outcome."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.attempts import Ended, Stop, classify, decide
from jobrt._core.hooks import not_begun
from jobrt._core.interrupt import from_signal
from jobrt._core.job import Claimed, Outcome, completed
from jobrt._core.results import After, Cancel, Discard, Snooze, Throttle
from jobrt._core.retry import default_delay, delay_for, should_retry
from jobrt._core.states import End, Transition
from jobrt._core.stored import defect_of
from jobrt._core.text import clipped, in_one_line
from jobrt._core.undecodable import undecodable
from jobrt._registry import JobDefinition, UndecodablePayload, encode_result
from jobrt._runtime.after import checked_after
from jobrt._runtime.context import Context
from jobrt._runtime.hooks import NotBegun
from jobrt._runtime.running import Running
from jobrt._runtime.services import Services, time_limit
from jobrt.errors import InvalidJob, InvalidResult, LeaseLost
from jobrt.events import Event, EventBus, JobNotBegun, JobStarted

if TYPE_CHECKING:
    Runner = Callable[[JobDefinition, Any, Context], Awaitable[Any]]


@attrs.define(eq=False)
class AttemptRunner:
    """Runner of the attempts of one worker; it has no state of its own."""

    definitions: Mapping[str, JobDefinition]
    runners: Mapping[str, Runner]
    services: Services
    emit: EventBus
    observe: Callable[[Event], object] = lambda _: None
    now: Callable[[], float] = attrs.Factory(lambda: trio.lowlevel.current_clock().current_time)
    chance: Callable[[], float] = random.random

    def begin(self, job: Claimed, scope: trio.CancelScope, *, now: float, began: int | None) -> Running:
        """Return a new attempt that runs in `scope` and starts at the time `now`; `Running` describes `began`."""
        attempt = Running(job, self.definitions[job.name], scope, now, trio.lowlevel.current_task(), began)
        if self.emit.subscribers:
            self.emit.routine(JobStarted(job.id, job.name, job.queue, job.attempt, job.lease))
        return attempt

    async def run(self, running: Running) -> Outcome:
        """Run one attempt and return its outcome.

        It raises a cancellation, or another `BaseException` of the job. If a scope outside of the attempt is cancelled,
        `cut` then returns the outcome; otherwise `stopped` does.
        """
        ctx = Context(running, self.services)
        definition, job = running.definition, running.job
        try:
            if job.metadata != "{}" or job.defect is not None:
                _check_row(job)
            value = definition.read(job.args, job.version)
            limit = time_limit(definition, job)
            if limit is not None:  # setting a deadline costs 6 µs, a quarter of what an attempt may cost
                running.limited, running.scope.deadline = True, running.started + limit
        except UndecodablePayload as error:
            ended = attrs.evolve(classify(error, None), end=End.UNDECODABLE)
            return undecodable(
                running.job, ended, problem=error.problem, shape=definition.shape, now=_began(running)
            )
        except BaseException as error:  # the user's TIMEOUT function may raise anything
            if from_signal(error):
                raise
            return self._failed(running, classify(error, None))
        try:
            returned = await self.runners[definition.run_in](definition, value, ctx)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a job must not end the worker
            # Not in a variable: this function is in the error's traceback, and the outcome has the error.
            return await _with_last(running, self._raised(running, error, ctx=ctx))
        except (trio.Cancelled, BaseExceptionGroup):
            await running.write_last()
            raise
        outcome = self._returned(running, returned)
        if isinstance(returned, After):
            outcome = await self._waiting(running, outcome)
        return outcome if running.unwritten is None else await _with_last(running, outcome)

    def stopped(self, running: Running, problem: BaseException | None) -> Outcome:
        """Return the outcome of an attempt whose scope was cancelled; `problem` is what it then raised, if anything."""
        return self._failed(running, self._classify(running, problem))

    def cut(self, running: Running) -> Outcome:
        """Return the outcome of an attempt that an outer scope has cancelled: its job is released."""
        ended = classify(None, running.stop or Stop.SHUTDOWN, running.reason)
        return decide(running.job, ended, retry=True, delay=0.0)

    def _raised(self, running: Running, error: BaseException, *, ctx: Context) -> Outcome:
        """Return the outcome of an attempt that raised an error; its job may not have begun."""
        if isinstance(error, NotBegun) and error.ctx is ctx and not (running.stop or running.cancelled):
            job = running.job
            self.observe(JobNotBegun(job.id, job.name, error.hook, error.problem))
            return not_begun(job, classify(error, None), now=_began(running))
        return self._failed(running, self._classify(running, error))

    def _classify(self, running: Running, problem: BaseException | None) -> Ended:
        stop, reason = running.stop, running.reason
        if stop is None and running.scope.cancel_called:
            limit = running.scope.deadline - running.started
            stop, reason = Stop.TIMEOUT, f"timed out after {limit:g} s"
        if stop is None and isinstance(problem, LeaseLost):
            stop = Stop.LEASE_LOST
        return classify(problem, stop, reason)

    def _returned(self, running: Running, value: Any) -> Outcome:
        """Return the outcome for the value that `run` returned."""
        job = running.job
        match value:
            case None:
                return completed(job.id, job.lease, running.began)
            case Snooze(delay):
                seconds = delay.total_seconds()
                return Outcome(job.id, job.lease, Transition.SNOOZE, End.SNOOZED, seconds, spent=False)
            case Throttle(delay):
                seconds = delay.total_seconds()
                return Outcome(
                    job.id, job.lease, Transition.SNOOZE, End.SNOOZED, seconds, spent=False, hold=seconds
                )
            case After(children):
                return Outcome(
                    job.id, job.lease, Transition.SNOOZE, End.SNOOZED, spent=False, children=children
                )
            case Cancel(reason):
                return Outcome(job.id, job.lease, Transition.CANCEL, End.CANCELLED, message=clipped(reason))
            case Discard(reason):
                error_type = "Discard"
                return Outcome(
                    job.id,
                    job.lease,
                    Transition.DISCARD,
                    End.FAILED,
                    error_type=error_type,
                    message=clipped(reason),
                )
            case _:
                try:
                    return Outcome(job.id, job.lease, result=encode_result(value))
                except InvalidJob as error:
                    return self._failed(running, classify(error, None))

    async def _waiting(self, running: Running, outcome: Outcome) -> Outcome:
        """Return the outcome of a job that waits for others, or a failure if it never could go on."""
        try:
            return await checked_after(running.job, outcome, client=self.services.client)
        except InvalidResult as error:
            return self._failed(running, classify(error, None))

    def _failed(self, running: Running, ended: Ended) -> Outcome:
        """Return the outcome of a failed or stopped attempt; after a failure, RETRY and BACKOFF decide."""
        job = running.job
        try:
            return self._decided(running, ended)
        except BaseException as error:  # an attempt without an outcome would hold its job for ever
            if from_signal(error):
                raise
            ended = attrs.evolve(
                ended, message=f"{ended.message}; to decide on a retry failed: {in_one_line(error)}"
            )
            delay = default_delay(job.attempt, chance=self.chance).total_seconds()
            return decide(job, ended, retry=True, delay=delay)

    def _decided(self, running: Running, ended: Ended) -> Outcome:
        definition, job = running.definition, running.job
        if ended.end not in {End.FAILED, End.TIMED_OUT}:
            return decide(job, ended, retry=True, delay=0.0)
        timed_out = ended.end is End.TIMED_OUT and not isinstance(ended.error, Exception)
        error = TimeoutError(ended.message) if timed_out or ended.error is None else ended.error
        answer = should_retry(definition.retry, attempt=job.attempt, error=error)
        delay = delay_for(
            definition.backoff, attempt=job.attempt, error=error, record=running.record, chance=self.chance
        )
        warnings = [text for text in (answer.warning, delay.warning) if text]
        if warnings:
            ended = attrs.evolve(ended, message="; ".join([ended.message or "", *warnings]))
        return decide(job, ended, retry=answer.retry, delay=delay.wait.total_seconds())


async def _with_last(running: Running, outcome: Outcome) -> Outcome:
    """Write what an attempt has said last, and return its outcome."""
    await running.write_last()
    return outcome


def _began(running: Running) -> datetime:
    """Return when an attempt began, by the database's clock."""
    return running.record.started_at or running.job.schedule_at


def _check_row(job: Claimed) -> None:
    """Raise `UndecodablePayload` if something in the job's row, other than its payload, cannot be read."""
    defect = defect_of(job.metadata, job.defect)
    if defect is not None:
        raise UndecodablePayload(f"{job.name}: {defect}", "text")
