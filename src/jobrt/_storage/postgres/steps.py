"""Operations of several statements, written once for every kind of caller.

Steps are a generator of statements; it receives the rows that each one returns. Trio and asyncio run it with `drive`,
plain psycopg with `drive_sync`, on their own connection or a caller's.
"""

from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from jobrt._storage.postgres.names import Copy, Run
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import BlockingSession, Session

T = TypeVar("T")

Steps: TypeAlias = Generator[Run | Copy, "list[Row]", T]


@attrs.define
class _Driven(Generic[T]):
    """Iterator over steps; the loop puts the rows of each step into `rows`."""

    _steps: Steps[T]
    rows: Any = None  # a generator must be sent None first
    results: list[T] = attrs.field(factory=list[T])

    def __iter__(self) -> Iterator[Run | Copy]:
        try:
            while True:
                yield self._steps.send(self.rows)
        except StopIteration as end:
            self.results.append(end.value)


async def drive(session: Session, steps: Steps[T]) -> T:
    """Run steps in a session, and return their result."""
    driven = _Driven(steps)
    for step in driven:
        driven.rows = await session.run_step(step)
    return driven.results[0]


def drive_sync(session: BlockingSession, steps: Steps[T]) -> T:
    """Run steps in a session of plain psycopg, and return their result."""
    driven = _Driven(steps)
    for step in driven:
        driven.rows = session.run_step(step)
    return driven.results[0]
