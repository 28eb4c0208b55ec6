"""Prepared statements without a cursor, in half the time.

`psycopg.AsyncCursor` creates about ten objects for each statement. Workers and clients run a few statements with
text parameters (or bytes, in a binary format) and small results again and again. For these the objects cost more than
sending the statement and reading the reply. This module uses only psycopg's protocol and adaptation, which are written
in C: `generators.execute` and `Transformer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from psycopg import generators, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer, PQGen
    from psycopg.pq.abc import PGconn, PGresult


_SUCCESS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class PreparedStatements:
    """Prepared statements of a connection, see `TrioConnection.prepared`.

    A statement stays prepared until the connection is closed, so there should be few.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self._names: dict[bytes, bytes] = {}
        self._numbers = count()
        self._adapt = Transformer(conn)

    async def run(self, statement: bytes, values: Sequence[str | bytes | None]) -> list[tuple[Any, ...]]:
        """Run a statement with parameters ``$1``, ``$2`` …, and return its rows; prepare it at first use.

        Texts are sent in the text format. Bytes are sent as they are, as a value in the binary format of its type.

        Outside ``conn.transaction()`` it is a transaction by itself, whether ``autocommit`` is set or not.

        Raises:
            psycopg.Error: as with a cursor.
        """
        conn, adapt = self._conn, self._adapt
        texts = adapt.dump_sequence(
            [None if isinstance(value, bytes) else value for value in values], [PyFormat.TEXT] * len(values)
        )
        parameters = [
            value if isinstance(value, bytes) else text for value, text in zip(values, texts, strict=True)
        ]
        formats = [pq.Format.BINARY if isinstance(value, bytes) else pq.Format.TEXT for value in values]
        async with conn.lock:
            result = await conn.wait(self._execute(conn.pgconn, statement, parameters, formats=formats))
        if not result.nfields:
            return []
        adapt.set_pgresult(result, format=pq.Format.BINARY)
        rows = adapt.load_rows(0, result.ntuples, tuple)
        adapt.set_pgresult(None)  # frees the result, which may be large
        return rows

    def _execute(
        self, pgconn: PGconn, statement: bytes, parameters: Sequence[Buffer | None], *, formats: Sequence[int]
    ) -> PQGen[PGresult]:
        name = self._names.get(statement)
        if name is None:
            # The name is never used again, because a cancelled prepare may have succeeded.
            name = b"jobrt_%d" % next(self._numbers)
            pgconn.send_prepare(name, statement)
            self._check((yield from generators.execute(pgconn)))
            self._names[statement] = name
        pgconn.send_query_prepared(name, parameters, formats, pq.Format.BINARY)
        return self._check((yield from generators.execute(pgconn)))

    def _check(self, results: list[PGresult]) -> PGresult:
        # The commit follows the rows: an error of the commit, or the end of the session, is the second result.
        for result in results:
            if result.status not in _SUCCESS:
                raise error_from_result(result, encoding=self._adapt.encoding)
        (result,) = results
        return result
