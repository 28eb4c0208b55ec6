"""psycopg's protocol generators, and how to cancel each of them.

psycopg implements the PostgreSQL protocol as generators. They yield what to wait for, and are resumed when the
socket is ready. They are identified by their code objects. This module uses these private names of psycopg 3.3:

=====================================  ==============================================================
`BaseConnection._commit_gen`           ends a transaction
`BaseConnection._rollback_gen`         the same
`BaseConnection._tpc_finish_gen`       the same
`BaseTransaction._exit_gen`            the same
`BaseTransaction._enter_gen`           always followed by the one above
`BasePipeline._exit_gen`               ends a pipeline
`BaseCursor._stream_fetchone_gen`      ``stream()`` reads the remaining rows with it
`ServerCursorMixin._close_gen`         ends a server-side cursor
`BaseCopy._read_gen`                   a step of COPY
`BaseCopy._read_row_gen`               the same
`BaseCopy._end_copy_out_gen`           the last step of COPY
`generators.copy_to`                   a step of COPY
`generators.copy_end`                  the last step of COPY
=====================================  ==============================================================
"""
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# (the table above lists the private names)

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg import generators
from psycopg._connection_base import BaseConnection
from psycopg._copy_base import BaseCopy
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.transaction import BaseTransaction
from psycopg.waiting import Ready, Wait
from trio.lowlevel import wait_readable, wait_writable

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen, PQGenConn


UNCANCELLABLE: Final = frozenset(
    {
        BaseConnection._commit_gen.__code__,
        BaseConnection._rollback_gen.__code__,
        BaseConnection._tpc_finish_gen.__code__,
        BaseTransaction[Any]._exit_gen.__code__,
        ServerCursorMixin[Any, Any]._close_gen.__code__,
    }
)
"""Generators that end a transaction or a cursor. They start even in a cancelled scope, and are never cancelled."""

_COPY_ENDINGS: Final = frozenset({BaseCopy[Any]._end_copy_out_gen.__code__, generators.copy_end.__code__})

STARTED_IF_CANCELLED: Final = (
    UNCANCELLABLE
    | _COPY_ENDINGS
    | {
        BaseCursor[Any, Any]._stream_fetchone_gen.__code__,
        BasePipeline._exit_gen.__code__,
        BaseTransaction[Any]._enter_gen.__code__,
    }
)
"""Generators that start even in a cancelled scope, since they end something or are needed for its end."""

FINISHED_AFTER_CANCEL: Final = _COPY_ENDINGS | {
    BasePipeline._exit_gen.__code__,
    BaseCopy[Any]._read_gen.__code__,
    BaseCopy[Any]._read_row_gen.__code__,
    generators.copy_to.__code__,
}
"""Generators to continue after a cancel request to the server. They then end soon, and update psycopg's state."""


code_of: Final[Callable[[PQGen[Any]], CodeType]] = attrgetter("gi_code")
"""Function that returns the code object of a generator: all of them are written with ``yield``."""


def close(gen: PQGen[Any]) -> None:
    """Close an unfinished generator now, and ignore the errors that it may raise."""
    with suppress(psycopg.Error, RuntimeError):
        gen.close()


async def connect(gen: PQGenConn[RV]) -> RV:
    """Run a generator that connects, and that yields the socket at each step."""
    try:
        fd, wanted = next(gen)
        while True:
            if wanted == Wait.R:
                await wait_readable(fd)
                fd, wanted = gen.send(Ready.R)
            else:
                await wait_writable(fd)
                fd, wanted = gen.send(Ready.W)
    except StopIteration as end:
        return cast("RV", end.value)
    finally:
        gen.close()  # which also closes the socket of an unfinished connection
