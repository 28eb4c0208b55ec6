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

from psycopg import AsyncCursor, generators, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.string import BytesBinaryDumper, StrDumperUnknown

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer, PQGen
    from psycopg.pq.abc import PGresult


_SUCCESS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_BINARY: Final = pq.Format.BINARY  # a member of an enum is looked up in 0.1 µs, which is as long as a call
_BY_TYPE: Final = (PyFormat.AUTO,)


class PreparedStatements:
    """Prepared statements of a connection, see `TrioConnection.prepared`.

    A statement stays prepared until the connection is closed, so there should be few.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self._names: dict[bytes, bytes] = {}
        self._numbers = count()
        # A cursor has adapters of its own: texts are sent as texts, and bytes as they are, whatever a program prefers.
        context = AsyncCursor(conn)
        context.adapters.register_dumper(str, StrDumperUnknown)
        context.adapters.register_dumper(bytes, BytesBinaryDumper)
        self._adapt = Transformer(context)

    async def run(self, statement: bytes, values: Sequence[str | bytes | None]) -> list[tuple[Any, ...]]:
        """Run a statement with parameters ``$1``, ``$2`` …, and return its rows; prepare it at first use.

        Texts are sent in the text format. Bytes are sent as they are, as a value in the binary format of its type.

        Outside ``conn.transaction()`` it is a transaction by itself, whether ``autocommit`` is set or not.

        Raises:
            psycopg.Error: as with a cursor.
        """
        conn, adapt = self._conn, self._adapt
        parameters = adapt.dump_sequence(values, _BY_TYPE * len(values))
        query = self._execute(statement, parameters, adapt.formats)
        async with conn.lock:
            result = await conn.wait(query)
        if not result.nfields:
            return []
        adapt.set_pgresult(result, format=_BINARY)
        rows = adapt.load_rows(0, result.ntuples, tuple)
        adapt.set_pgresult(None)  # frees the result, which may be large
        return rows

    def _execute(
        self, statement: bytes, parameters: Sequence[Buffer | None], formats: Sequence[int] | None
    ) -> PQGen[PGresult]:
        pgconn = self._conn.pgconn
        name = self._names.get(statement)
        if name is None:
            # The name is never used again, because a cancelled prepare may have succeeded.
            name = b"jobrt_%d" % next(self._numbers)
            pgconn.send_prepare(name, statement)
            self._check((yield from generators.execute(pgconn)))
            self._names[statement] = name
        pgconn.send_query_prepared(name, parameters, formats, _BINARY)
        return self._check((yield from generators.execute(pgconn)))

    def _check(self, results: list[PGresult]) -> PGresult:
        # The commit follows the rows: an error of the commit, or the end of the session, is the second result.
        for result in results:
            if result.status not in _SUCCESS:
                raise error_from_result(result, encoding=self._adapt.encoding)
        (result,) = results
        return result
