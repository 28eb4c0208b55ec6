"""What the contexts of jobs that do not run in Trio have in common. See ``design/run-in.md``."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from jobrt._core.job import JobRecord


class OutsideTrio:
    """Base class of contexts that refuse durable waits, each with the same sentence."""

    _place: ClassVar[str]

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        raise NotImplementedError

    def open_nursery(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `RuntimeError`: only a job in Trio has a nursery."""
        raise self._no_wait("open_nursery")

    def receive(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `RuntimeError`: only a job in Trio receives messages."""
        raise self._no_wait("receive")

    def sleep(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `RuntimeError`: only a job in Trio sleeps durably."""
        raise self._no_wait("sleep")

    def sleep_until(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `RuntimeError`: only a job in Trio sleeps durably."""
        raise self._no_wait("sleep_until")

    def _no_wait(self, name: str) -> RuntimeError:
        return RuntimeError(
            f'{self.job.name}: ctx.{name}(): a job with RUN_IN = "{self._place}" cannot wait durably: use RUN_IN = '
            f'"trio", and trio.to_thread.run_sync or a child job for its slow part'
        )
