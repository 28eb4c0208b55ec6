"""Runs of a job without a worker: in tests, or by hand with a stored payload."""

import math
from collections.abc import Sequence
from typing import Any

import trio

from jobrt._core.job import Claimed, NewJob
from jobrt._core.limits import Demand
from jobrt._core.text import Described
from jobrt._core.worker_info import WorkerInfo
from jobrt._registry import JobDefinition
from jobrt._runtime.background import Background
from jobrt._runtime.context import Context, Services, time_limit
from jobrt._runtime.hooks import AttemptHook, hooked
from jobrt._runtime.runners import make_runners
from jobrt._runtime.running import Running
from jobrt._storage.contract import Storage

_WORKER = "perform"


async def perform(
    definition: JobDefinition,
    args: str,
    *,
    scratch: Storage,
    state: Any,
    client: Any,
    hooks: Sequence[AttemptHook] = (),
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

    Raises:
        UndecodablePayload: the payload does not fit the class.
        trio.TooSlowError: the job's TIMEOUT passed.
        HookFailed: a hook kept the job from running.
        Exception: the exception that `run` raised, unchanged.

    """
    job = definition.decode(args)
    claimed = await _claim(definition, args, scratch)
    background = Background()
    problem: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(background.run)
        task, now = trio.lowlevel.current_task(), trio.current_time()
        running = Running(claimed, definition, trio.CancelScope(), now, task)
        limit = time_limit(definition, claimed)
        running.scope.deadline = math.inf if limit is None else running.started + limit
        services = Services(
            state,
            scratch.attempts,
            scratch.scopes,
            client,
            trio.Event(),
            background.later,
            streams=scratch.streams,
        )
        runner = hooked(make_runners(threads=1, start=background.start)[definition.run_in], hooks)
        ctx = Context(running, services)
        try:
            with running.scope:
                return await runner(definition, job, ctx)
        except Described as error:
            problem = error.original or error
        except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it in a group
            problem = error
        finally:
            await ctx.write_last()
            nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    msg = f"{definition.name} did not end within its TIMEOUT"
    raise trio.TooSlowError(msg)


async def _claim(definition: JobDefinition, args: str, scratch: Storage) -> Claimed:
    await scratch.workers.register(_WORKER, lease=1e6, info=WorkerInfo())
    await scratch.jobs.insert([NewJob(name=definition.name, args=args, max_attempts=definition.max_attempts)])
    exchange = await scratch.attempts.exchange((), Demand(_WORKER, "default", 1, (definition.name,)))
    return exchange.jobs[0]
