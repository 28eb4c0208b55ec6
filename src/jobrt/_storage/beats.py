"""Numbers of heartbeats, by which a storage notices that its database was set back to an older state."""

from typing import Any

import attrs

from jobrt._core.worker_info import WorkerInfo


@attrs.frozen
class Beat:
    """One heartbeat: its number, and that of the worker's last one that was answered."""

    number: int
    since: int


@attrs.define(eq=False)
class Beats:
    """Numbers of the heartbeats that one storage sends, for each worker.

    A heartbeat stores its number in the worker's row. The next one requires that the row holds the number of the last
    answered heartbeat, or a higher one: replies may be lost. A restore of older data brings back a lower number. A
    claim requires the same, because the next heartbeat may be some seconds away.
    """

    _sent: dict[str, int] = attrs.field(init=False, factory=dict[str, int])
    _answered: dict[str, int] = attrs.field(init=False, factory=dict[str, int])

    def registered(self, worker: str) -> None:
        """Start to count, after a registration."""
        self._sent[worker] = self._answered[worker] = 0

    @property
    def counted(self) -> bool:
        """Return whether any worker is counted: this storage has registered it."""
        return bool(self._sent)

    def next(self, worker: str) -> Beat:
        """Return the next heartbeat of a worker."""
        number = self._sent.get(worker, 0) + 1
        if worker in self._sent:  # others are not counted, because nobody would forget them
            self._sent[worker] = number
        return Beat(number, self._answered.get(worker, 0))

    def answered(self, worker: str, beat: Beat) -> None:
        """Note that a heartbeat was written and its reply has arrived."""
        if worker in self._answered:
            self._answered[worker] = max(self._answered[worker], beat.number)

    def since(self, worker: str) -> int | None:
        """Return the number that a worker's row must have at least; None if this storage has not registered it."""
        return self._answered.get(worker)

    def forget(self, worker: str) -> None:
        """Forget a worker that has gone."""
        self._sent.pop(worker, None)
        self._answered.pop(worker, None)


def info_with(info: WorkerInfo, beat: int) -> dict[str, Any]:
    """Return what a worker's row holds: its description, and the number of the heartbeat."""
    return info.to_dict() | {"beat": beat}
