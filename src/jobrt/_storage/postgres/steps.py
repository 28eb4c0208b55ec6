"""Operations of several statements, written once for every kind of caller.

Steps are a generator of statements; it receives the rows that each one returns. Trio and asyncio run it with `drive`,
plain psycopg with `drive_sync`, on their own connection or a caller's.
"""

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from jobrt._storage.postgres.names import Copy, Run
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import BlockingSession, Session

T = TypeVar("T")

Steps: TypeAlias = Generator[Run | Copy, "list[Row]", T]


async def drive(session: Session, steps: Steps[T]) -> T:
    """Run steps in a session, and return their result."""
    rows: Any = None  # a generator must be sent None first
    try:
        while True:
            rows = await session.run_step(steps.send(rows))
    except StopIteration as end:
        result: T = end.value
        return result


def drive_sync(session: BlockingSession, steps: Steps[T]) -> T:
    """Run steps in a session of plain psycopg, and return their result."""
    rows: Any = None  # a generator must be sent None first
    try:
        while True:
            rows = session.run_step(steps.send(rows))
    except StopIteration as end:
        result: T = end.value
        return result
