"""Listeners of one process, the jobs whose end is awaited there, and the sockets of other processes."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final

import attrs

from jobrt._storage.contract import Wake
from jobrt._storage.sqlite.sockets import Sockets, word_for
from jobrt._storage.sqlite.transaction import Transaction

_OTHERS: Final = (Wake("jobs"), Wake("control"), Wake("finished"))
_ANY_NEWS: Final = Wake("stream")


@attrs.define(eq=False)
class Hub:
    """Registry of listeners and awaited jobs; used in the event loop only."""

    sockets: Sockets | None = None
    """Sockets of all listeners of the file; None for a database in memory."""
    _listeners: list[Callable[[Wake], None]] = attrs.field(factory=list["Callable[[Wake], None]"])
    _followers: list[Callable[[Wake], None]] = attrs.field(factory=list["Callable[[Wake], None]"])
    """Those of the listeners that get ``stream`` wakes."""
    _awaited: set[int] = attrs.field(factory=set[int])

    @contextmanager
    def listening(self, deliver: Callable[[Wake], None], *, news: bool = False) -> Generator[None]:
        """Deliver wakes while the block runs; ``stream`` wakes only if `news` is true."""
        registries = [self._listeners, self._followers] if news else [self._listeners]
        for registry in registries:
            registry.append(deliver)
        try:
            yield
        finally:
            for registry in registries:
                registry.remove(deliver)

    @property
    def awaits(self) -> bool:
        """Whether the end of some job is awaited in this process."""
        return bool(self._awaited)

    def expect(self, ids: Iterable[int]) -> None:
        """Deliver a ``finished`` wake when one of these jobs ends."""
        self._awaited.update(ids)

    def forget(self, ids: Iterable[int]) -> None:
        """Stop expecting these jobs: they have ended or do not exist."""
        self._awaited.difference_update(ids)

    def committed(self, tx: Transaction) -> None:
        """Notify listeners here and in other processes of the changes of a transaction, after its commit."""
        for queue in sorted(tx.queues):  # the order of a set of texts differs from process to process
            self._deliver(Wake("jobs", queue))
        if tx.control:
            self._deliver(Wake("control"))
        if self._awaited and not self._awaited.isdisjoint(tx.ended):
            self._awaited.difference_update(tx.ended)
            self._deliver(Wake("finished"))
        if self._followers and (tx.news or tx.ended):
            self._tell_followers(Wake("stream", jobs=frozenset([*tx.news, *tx.ended])))
        if (word := word_for(tx)) is not None:
            self.tell(word)

    def tell(self, word: bytes) -> None:
        """Send a word to the listeners in other processes."""
        if self.sockets is not None:
            self.sockets.send(word)

    def others_committed(self) -> None:
        """Notify listeners that another connection has written; what it wrote is unknown."""
        for wake in _OTHERS:
            self._deliver(wake)
        self._tell_followers(_ANY_NEWS)

    def _deliver(self, wake: Wake) -> None:
        for deliver in tuple(self._listeners):
            deliver(wake)

    def _tell_followers(self, wake: Wake) -> None:
        for deliver in tuple(self._followers):
            deliver(wake)
