"""An empty place for jobs beside a database, for a while: to measure without touching anything."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex

import attrs
import trio

from jobrt._core.database_url import parse_url

_REMOVE_SECONDS = 30.0


@attrs.frozen
class Scratch:
    """An empty place: the URL and schema to give to an `App`, and what the database is and how it commits."""

    url: str
    schema: str
    about: dict[str, str]


@asynccontextmanager
async def open_scratch(url: str) -> AsyncGenerator[Scratch]:
    """Make a file in a new folder beside a SQLite file, or name a new schema in a PostgreSQL database.

    The folder or schema is removed after the block, however that ends.

    Raises:
        StorageError: it cannot be made, or not be removed; says what is left.

    """
    address = parse_url(url)
    name = f"jobrt_bench_{token_hex(4)}"
    if address.engine == "sqlite":
        from jobrt._bench import scratch_sqlite as sqlite  # noqa: PLC0415 - only the engine in use is loaded

        with sqlite.folder_beside(address.target, name) as file:
            yield Scratch(f"sqlite:///{file}", name, sqlite.about(file))
        return
    from jobrt._bench import scratch_postgres as postgres  # noqa: PLC0415 - as above

    about = await postgres.about(url)
    try:
        yield Scratch(url, name, about)
    finally:
        with trio.CancelScope(shield=True):  # both steps have their own time
            await postgres.drop_schema(url, name, seconds=_REMOVE_SECONDS)
