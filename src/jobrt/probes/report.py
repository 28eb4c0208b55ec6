"""What one process tells about itself: its health, and its metrics if they are asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.status import QueueView, view_queues
from jobrt.app import App
from jobrt.errors import StorageError
from jobrt.probes.families import Family, job_families, queue_families, worker_families
from jobrt.probes.health import Health, health_of

_QUEUES_SECONDS: Final = 2.0
"""Time limit for counting the jobs of the queues. Prometheus gives a scrape ten seconds."""
_QUEUES_AGE: Final = 5.0
"""Seconds for which the counts are used again, so that nobody can load the database with requests."""
_log = logging.getLogger("jobrt.probes")


@attrs.frozen
class Report:
    """Health of a process, and its metrics."""

    health: Health = attrs.Factory(Health)
    families: tuple[Family, ...] = ()

    def to_json(self) -> str:
        """Return the report as a JSON text, for the parent process."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report of a process; raises `ValueError`, `LookupError` or `TypeError` for another text."""
        data: dict[str, Any] = json.loads(text)
        health = Health(*(tuple(data["health"][name]) for name in ("dead", "unready")))
        families = [
            Family(
                one["name"], one["kind"], one["help"], tuple((n, dict(ls), v) for n, ls, v in one["samples"])
            )
            for one in data["families"]
        ]
        return cls(health, tuple(families))


@attrs.define(eq=False)
class Reporter:
    """Maker of the reports of an app's workers in this process; only in the event loop."""

    app: App
    _queues: Sequence[QueueView] | None = None
    _counted_at: float | None = None
    _counting: trio.Lock = attrs.Factory(trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.app.measure()

    def health(self) -> Health:
        """Return the health, without asking the database."""
        return health_of((worker.registered, worker.info()) for worker in self.app.workers)

    async def report(self) -> Report:
        """Return the health and the metrics, with those of the queues if the database tells them in time."""
        async with self._counting:
            await self._count()
        workers = [(worker.id, worker.registered, worker.info()) for worker in self.app.workers]
        families = [*worker_families(workers), *job_families(self.app.measure())]
        if self._queues is not None:
            families += queue_families(self._queues)
        return Report(self.health(), tuple(families))

    async def _count(self) -> None:
        now = trio.current_time()
        if self._counted_at is not None and now - self._counted_at < _QUEUES_AGE:
            return
        self._counted_at, self._queues = now, None
        workers = self.app.workers
        if not workers or any(worker.info().outage for worker in workers):
            return
        with trio.move_on_after(_QUEUES_SECONDS):
            try:
                storage = workers[0].storage
                queues = await storage.queues.all(limit=COUNT_LIMIT)
                self._queues = view_queues(queues, await storage.workers.all())
            except StorageError as error:  # an outage has an event and a metric of its own
                _log.debug("the jobs of the queues cannot be counted: %s", error)
