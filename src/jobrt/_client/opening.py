"""Opening and closing of a client."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio

from jobrt._client.client import Client
from jobrt._client.following import Following
from jobrt._client.hooks import EnqueueHook
from jobrt._client.waiting import Waiting
from jobrt._core.keep import PruneRule
from jobrt._registry import Registry
from jobrt._storage.contract import Storage
from jobrt.events import EventBus


@asynccontextmanager
async def open_client(
    storage: Storage,
    registry: Registry,
    *,
    rules: Sequence[PruneRule],
    emit: EventBus,
    queues: frozenset[str] | None = None,
    hooks: Sequence[EnqueueHook] = (),
) -> AsyncGenerator[Client]:
    """Open a client for a block; its nursery runs the task that polls the jobs for which callers wait.

    An exception that the block raises propagates unchanged and not in a group.

    Args:
        storage: an open storage.
        registry: the jobs that may be enqueued; empty: any.
        rules: retention rules that `Client.prune` applies.
        emit: event bus that receives `JobEnqueued`.
        queues: the queues of the app, to check others; None for no checks.
        hooks: hooks around enqueues; later changes of a list take effect.

    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            waiting, following = Waiting(storage, nursery), Following(storage, nursery)
            client = Client(storage, registry, rules, emit, waiting, queues, hooks, following)
            try:
                yield client
            except BaseException as error:
                raised = error
                raise
            finally:
                client.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is not None and group.exceptions == (raised,):
            raise raised from raised.__cause__
        raise
