"""Sending claimed batches to the executors, without losing one or changing their order."""

from bisect import insort
from collections import deque
from operator import attrgetter

import trio

from jobrt._runtime.messages import Batch, Work


async def send_all(unsent: deque[Batch], channel: trio.MemorySendChannel[Work]) -> None:
    """Send all batches; those whose sending is cancelled stay."""
    while unsent:
        batch = unsent.popleft()
        try:
            channel.send_nowait(batch)
        except trio.WouldBlock:
            await _send_or_put_back(batch, channel, unsent)


def send_some(unsent: deque[Batch], channel: trio.MemorySendChannel[Work]) -> bool:
    """Send as many batches as the channel has room for; return whether these were all."""
    try:
        while unsent:
            channel.send_nowait(unsent[0])
            unsent.popleft()
    except trio.WouldBlock:
        return False
    return True


async def _send_or_put_back(
    batch: Batch, channel: trio.MemorySendChannel[Work], unsent: deque[Batch]
) -> None:
    """Send a batch once the channel has room, which it lacks while the executors are down."""
    try:
        await channel.send(batch)
    except BaseException:
        # Sorted in: several tasks may be cancelled here, and the one with the later batch may be woken first.
        insort(unsent, batch, key=attrgetter("number"))
        raise
