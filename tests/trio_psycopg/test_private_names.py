"""The private names of psycopg that `_trio_psycopg` uses exist, with the expected signatures."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import generators
from psycopg._connection_base import BaseConnection
from psycopg._copy_base import BaseCopy
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.pq import ConnStatus
from psycopg.transaction import BaseTransaction

from jobrt._trio_psycopg import connection, protocol
from tests.support.postgres import Server

_Connection = psycopg.AsyncConnection

_FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "AsyncConnection._connect_gen": (_Connection._connect_gen, "conninfo"),
    "AsyncConnection._should_cancel": (_Connection._should_cancel, "self"),
    "AsyncConnection._try_cancel": (_Connection._try_cancel, "self timeout"),
    "AsyncConnection._pipeline_nolock": (_Connection._pipeline_nolock, "self"),
    "BaseConnection._commit_gen": (BaseConnection._commit_gen, "self"),
    "BaseConnection._rollback_gen": (BaseConnection._rollback_gen, "self"),
    "BaseConnection._tpc_finish_gen": (BaseConnection._tpc_finish_gen, "self action xid"),
    "BaseTransaction._exit_gen": (BaseTransaction._exit_gen, "self exc_type exc_val exc_tb"),
    "BaseTransaction._enter_gen": (BaseTransaction._enter_gen, "self"),
    "BasePipeline._exit_gen": (BasePipeline._exit_gen, "self"),
    "BaseCursor._stream_fetchone_gen": (BaseCursor._stream_fetchone_gen, "self first"),
    "ServerCursorMixin._close_gen": (ServerCursorMixin._close_gen, "self"),
    "BaseCopy._read_gen": (BaseCopy._read_gen, "self"),
    "BaseCopy._read_row_gen": (BaseCopy._read_row_gen, "self"),
    "BaseCopy._end_copy_out_gen": (BaseCopy._end_copy_out_gen, "self"),
    "generators.copy_to": (generators.copy_to, "pgconn buffer flush"),
    "generators.copy_end": (generators.copy_end, "pgconn error"),
    "generators.fetch": (generators.fetch, "pgconn"),
    "generators.notifies": (generators.notifies, "pgconn"),
}
_ATTRIBUTES = {
    "AsyncConnection._adapters": None,
    "AsyncConnection._autocommit": False,
    "AsyncConnection._closed": False,
}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_function(name: str) -> None:
    """Each function has the parameters that it had in psycopg 3.3."""
    function, parameters = _FUNCTIONS[name]
    try:
        signature = inspect.signature(function)
    except ValueError:
        pytest.skip("compiled without a signature")
    assert list(signature.parameters) == parameters.split()


@pytest.mark.parametrize(
    "name", [name for name in _FUNCTIONS if name.startswith(("Base", "Server"))] + ["generators.copy_to"]
)
def test_generators_have_code_objects(name: str) -> None:
    """A function that is identified by its code object is a Python generator."""
    assert inspect.isgeneratorfunction(_FUNCTIONS[name][0])


@pytest.mark.parametrize("name", _ATTRIBUTES)
async def test_attribute(name: str, postgres_server: Server) -> None:
    """Each attribute of a new connection has the value that it had in psycopg 3.3."""
    async with await connection.TrioConnection.connect(postgres_server.admin) as conn:
        assert getattr(conn, name.partition(".")[2]) == _ATTRIBUTES[name]


def test_psycopg_calls_wait_and_lock() -> None:
    """The connection of psycopg does its I/O in `wait`, under `lock`."""
    assert list(inspect.signature(_Connection.wait).parameters) == ["self", "gen", "interval", "timeout"]
    assert "self.lock = " in inspect.getsource(_Connection.__init__)
    assert int(ConnStatus.OK) == 0


def test_tables_are_complete() -> None:
    """The tables in the docstrings have the same names as this test."""
    documented = f"{connection.__doc__}{protocol.__doc__}"
    assert (
        set(re.findall(r"^`([\w.]+)`  ", documented, re.MULTILINE)) == _FUNCTIONS.keys() | _ATTRIBUTES.keys()
    )
