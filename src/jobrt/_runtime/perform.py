"""Runs of a job without a worker: in tests, or by hand with a stored payload."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import trio

from jobrt._core import where
from jobrt._core.attempts import Stop, suspended
from jobrt._core.job import Claimed, NewJob, Wait
from jobrt._core.limits import Demand
from jobrt._core.states import FINAL, State
from jobrt._core.text import Described
from jobrt._core.worker_info import WorkerInfo
from jobrt._registry import JobDefinition
from jobrt._runtime.background import Background
from jobrt._runtime.context import Context
from jobrt._runtime.hooks import AttemptHook, hooked
from jobrt._runtime.parking import ends, pause, resume, shielded
from jobrt._runtime.runners import make_runners
from jobrt._runtime.running import Running, Slots
from jobrt._runtime.services import Services, time_limit
from jobrt._storage.contract import Storage, Wake

_WORKER: Final = "perform"
"""Name of the worker that holds the job, and of its queue: no other worker serves that."""

_LEASE: Final = 1e9
"""Seconds; longer than any virtual time that a test lets pass."""


async def perform(
    definition: JobDefinition,
    args: str,
    *,
    scratch: Storage,
    state: Any,
    client: Any,
    hooks: Sequence[AttemptHook] = (),
    messages: Mapping[str, Sequence[Any]] | None = None,
    work: Callable[..., Awaitable[None]] | None = None,
) -> Any:
    """Run a job's `run` with a real context and return what it returns, or raise what it raises.

    The attempt is recorded in `scratch`, a storage for this call alone: checkpoints, steps and progress work, and are
    deleted with it.

    Args:
        definition: the job.
        args: its payload as JSON text.
        scratch: storage in which the attempt is recorded.
        state: value of ``ctx.state``.
        client: value of ``ctx.client``, with which ``ctx.enqueue`` enqueues.
        hooks: hooks around the attempt.
        messages: values to send to the job before it runs, by name.
        work: runs a worker on `scratch`, for children, times and deadlines. Without one the job must not wait.

    Raises:
        RuntimeError: the job waits, and there is no worker, or for a message that nobody sends.
        UndecodablePayload: the payload does not fit the class.
        trio.TooSlowError: the job's TIMEOUT passed.
        HookFailed: a hook kept the job from running.
        Exception: the exception that `run` raised, unchanged.

    """
    job = definition.decode(args)
    claimed = await _claim(definition, args, scratch)
    await _send(client, claimed.id, messages or {})
    background = Background()
    async with trio.open_nursery() as nursery:
        await nursery.start(background.run)
        running = _running(definition, claimed, slots=_Slot(scratch, client, nursery, work))
        ctx = Context(running, _services(scratch, background, state=state, client=client))
        runner = hooked(make_runners(threads=1, start=background.start)[definition.run_in], hooks)
        returned, problem = await _ended(running, partial(runner, definition, job, ctx))
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    return returned


def _running(definition: JobDefinition, claimed: Claimed, *, slots: Slots) -> Running:
    """Return an attempt of this task that starts now, with its deadline."""
    task, now = trio.lowlevel.current_task(), trio.current_time()
    limit = time_limit(definition, claimed)
    scope = trio.CancelScope(deadline=math.inf if limit is None else now + limit)
    return Running(claimed, definition, scope, now, task, slots=slots)


def _services(scratch: Storage, background: Background, *, state: Any, client: Any) -> Services:
    return Services(
        state,
        scratch.attempts,
        scratch.scopes,
        client,
        trio.Event(),
        background.later,
        streams=scratch.streams,
    )


async def _ended(
    running: Running, run: Callable[[], Awaitable[Any]]
) -> tuple[Any, None] | tuple[None, BaseException]:
    """Run an attempt; return what it returned, or its error: the caller raises that where no nursery wraps it."""
    try:
        with running.scope:
            return await run(), None
    except Described as error:
        return None, error.original or error
    except Exception as error:  # noqa: BLE001 - see above
        return None, error
    finally:
        await running.write_last()
    return None, trio.TooSlowError(f"{running.definition.name} did not end within its TIMEOUT")


async def _claim(definition: JobDefinition, args: str, scratch: Storage) -> Claimed:
    await scratch.workers.register(_WORKER, lease=_LEASE, info=WorkerInfo())
    job = NewJob(name=definition.name, args=args, max_attempts=definition.max_attempts, queue=_WORKER)
    await scratch.jobs.insert([job])
    exchange = await scratch.attempts.exchange((), Demand(_WORKER, _WORKER, 1, (definition.name,)))
    return exchange.jobs[0]._replace(queue=definition.queue)


async def _send(client: Any, job_id: int, messages: Mapping[str, Sequence[Any]]) -> None:
    for name, values in messages.items():
        for value in values:
            await client.send(job_id, name, value)


@attrs.define(eq=False)
class _Slot:
    """Slot of the performed job, which it gives up while it waits; implements `Slots`.

    The job is parked, whatever its `PARK`: so it runs once from the top. A worker for its children, and for what is
    due, starts when it first waits.
    """

    _storage: Storage
    _client: Any
    _nursery: trio.Nursery
    _work: Callable[..., Awaitable[None]] | None
    _woken: trio.Event = attrs.Factory(trio.Event)
    _working: bool = False

    async def park(self, attempt: Running, wait: Wait, *, patience: float) -> None:  # noqa: ARG002 - see `Slots`
        """Implement `Slots.park`."""
        await self._start_worker(attempt, wait)
        waits = pause(attempt, wait, now=trio.current_time())
        waits.parked = True
        await self._storage.attempts.finish([suspended(attempt.job, wait._replace(parked=True))])
        try:
            if wait.kind == "message" and await self._nobody_sends(attempt.job.id):
                await self._go_on(attempt)
                raise RuntimeError(
                    f"{attempt.job.name} waits for a message {wait.name!r} that nobody sends:"
                    f" pass perform(..., messages={{{wait.name!r}: [...]}}), or let it wait within a time"
                )
            resume(attempt, await self._claim(attempt), now=trio.current_time())
        except trio.Cancelled:
            await trio.lowlevel.cancel_shielded_checkpoint()
            if not ends(attempt):  # only a scope within the job: its code goes on
                with shielded(attempt):
                    await self._go_on(attempt)
            raise

    async def _start_worker(self, attempt: Running, wait: Wait) -> None:
        if self._work is None:
            raise RuntimeError(
                f"{attempt.job.name} waits for {wait.kind} {wait.name!r}, and there is no worker: enqueue the job,"
                " or test it with jobrt.testing.perform"
            )
        if not self._working:
            self._working = True
            await self._nursery.start(self._storage.wakes.listen, self._wake)
            await self._nursery.start(self._watch, attempt)
            await self._nursery.start(self._work)

    def _wake(self, _wake: Wake) -> None:
        self._woken.set()
        self._woken = trio.Event()

    async def _watch(
        self, attempt: Running, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Cancel the attempt, or the body of a nursery, when it is to end."""
        task_status.started()
        while True:
            woken = self._woken
            changes = await self._storage.workers.changes(_WORKER)
            for request in changes.cancels:
                if attempt.has_held(request.ref):
                    attempt.cancel(Stop(request.stop), request.reason)
            for ending in changes.nurseries:
                bodies = {} if attempt.scopes is None else attempt.scopes.bodies
                if attempt.has_held(ending.ref) and ending.name in bodies:
                    bodies[ending.name].cancel()
            await woken.wait()

    async def _claim(self, attempt: Running) -> Claimed:
        """Return the claim with which a parked job goes on."""
        demand = Demand(_WORKER, _WORKER, 1, (attempt.job.name,))
        while True:
            woken = self._woken
            exchange = await self._storage.attempts.exchange((), demand)
            if exchange.jobs:
                return exchange.jobs[0]._replace(queue=attempt.job.queue)
            await woken.wait()

    async def _go_on(self, attempt: Running) -> None:
        """End the wait of a parked job."""
        await self._storage.attempts.finish([suspended(attempt.job, Wait("", "", parked=True))])
        resume(attempt, await self._claim(attempt), now=trio.current_time())

    async def _nobody_sends(self, job_id: int) -> bool:
        """Return whether a job waits without a limit, and has no living child that may send it a message."""
        record = await self._client.get(job_id)
        if record.state is not State.SUSPENDED or record.waiting is None or record.waiting.until is not None:
            return False
        return not await self._client.count(where.parent(job_id) & ~where.state(*FINAL))
