"""Run short statements that a connection has prepared, in half of the time that a cursor takes.

`psycopg.AsyncCursor` can do everything, and makes some ten objects to be ready for it. A worker and a client
run the same few statements all day, with texts as parameters and small results, so that these objects cost more
than sending the statement and reading the reply. What remains here is psycopg's protocol and psycopg's
adaptation, in the same C: `generators.execute` and `Transformer`.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final

from psycopg import generators, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.abc import Buffer, PQGen
    from psycopg.pq.abc import PGconn, PGresult

    from jobrt._trio_psycopg.connection import TrioConnection

__all__ = ["PreparedStatements"]

_FINE: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class PreparedStatements:
    """The statements that one connection has prepared; `TrioConnection.prepared` has them.

    They live as long as the session. None is ever dropped, so there should be few.
    """

    def __init__(self, conn: TrioConnection[Any]) -> None:
        self._conn = conn
        self._names: dict[bytes, bytes] = {}
        self._numbers = count()
        self._adapt = Transformer(conn)

    async def run(self, statement: bytes, values: Sequence[str | None]) -> list[tuple[Any, ...]]:
        """Run a statement with ``$1``, ``$2`` … for texts, and return its rows; prepare it if it is new here.

        It is a transaction by itself unless ``conn.transaction()`` has begun one, whatever ``autocommit`` says.

        Raises:
            psycopg.Error: what a cursor would raise.
        """
        conn, adapt = self._conn, self._adapt
        texts = adapt.dump_sequence(values, [PyFormat.TEXT] * len(values))
        async with conn.lock:
            result = await conn.wait(self._execute(conn.pgconn, statement, texts))
        if not result.nfields:
            return []
        adapt.set_pgresult(result, format=pq.Format.BINARY)
        rows = adapt.load_rows(0, result.ntuples, tuple)
        adapt.set_pgresult(None)  # which may be large
        return rows

    def _execute(self, pgconn: PGconn, statement: bytes, texts: Sequence[Buffer | None]) -> PQGen[PGresult]:
        name = self._names.get(statement)
        if name is None:
            name = b"jobrt_%d" % next(self._numbers)  # never again, as this may be cut after it took effect
            pgconn.send_prepare(name, statement)
            self._check((yield from generators.execute(pgconn)))
            self._names[statement] = name
        pgconn.send_query_prepared(name, texts, result_format=pq.Format.BINARY)
        return self._check((yield from generators.execute(pgconn)))

    def _check(self, results: list[PGresult]) -> PGresult:
        # A statement that has answered is committed after that: an error then, or the end of the session, comes second.
        for result in results:
            if result.status not in _FINE:
                raise error_from_result(result, encoding=self._adapt.encoding)
        (result,) = results
        return result
