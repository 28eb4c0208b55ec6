"""How a client is opened and closed: it lives in a nursery, for the task that watches the jobs it waits for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from jobrt._client.client import Client
from jobrt._client.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from jobrt._core.keep import PruneRule
    from jobrt._registry import Registry
    from jobrt._storage.contract import Storage
    from jobrt.events import EventBus


@asynccontextmanager
async def open_client(
    storage: Storage, registry: Registry, *, rules: Sequence[PruneRule], emit: EventBus
) -> AsyncGenerator[Client]:
    """Open a client for the length of a block; an exception of the block leaves it as it is, not in a group.

    Args:
        storage: an open storage.
        registry: the jobs that may be enqueued; empty: any.
        rules: the retention rules that `Client.prune` applies.
        emit: gets `JobEnqueued`.

    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield Client(storage, registry, rules, emit, Waiting(storage, nursery))
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is not None and group.exceptions == (raised,):
            raise raised from raised.__cause__
        raise
