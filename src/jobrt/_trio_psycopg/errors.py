"""Tell what a psycopg error means for a storage call: come back later, or give up.

::

    sqlstate                                   becomes             because
    08xxx 53xxx 57xxx 58xxx                    StorageUnavailable  connection, resources, operator, system
    40001 40003 40P01 55P03 25006 25P03 25P04  StorageUnavailable  lost a race, a lock, the primary, the time
    42P01 42703 42704 42883 3F000              SchemaError         no such table, column, type or schema
    any other                                  StorageError        the same call would fail again
    none, connection lost or not made          StorageUnavailable  unless its text says that waiting is no use
    none otherwise                             StorageError        the driver was used wrongly

libpq does not pass on the sqlstate of a connection that was refused, only its text. `_REFUSED` knows the
English texts that no waiting will change (password, role, database, pg_hba.conf, TLS); a text that it does
not know, a translated one for example, counts as passing: a worker keeps trying, and shows the message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg

from jobrt.errors import SchemaError, StorageError, StorageUnavailable

__all__ = ["AllHostsFailed", "one_line", "translate"]

_TRANSIENT_CLASSES = frozenset({"08", "53", "57", "58"})
_TRANSIENT_STATES = frozenset({"25006", "25P03", "25P04", "40001", "40003", "40P01", "55P03"})
_SCHEMA_STATES = frozenset({"42P01", "42703", "42704", "42883", "3F000"})

_REFUSED = re.compile(
    r"password authentication failed"
    r"|no password supplied"
    r"|authentication failed for user"
    r"|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects"
    r'|(role|user|database) ".*" does not exist'
    r"|is not permitted to log in"
    r"|permission denied for database"
    r"|does not support (SSL|GSS)"
    r"|certificate"
    r"|invalid (sslmode|connection option|port|integer value)",
    re.IGNORECASE,
)

# "connection failed: connection to server at "10.0.0.7", port 5432 failed: FATAL:  role …"
_PREFIX = re.compile(
    r"^(?:connection (?:failed|is bad): )?(?:connection to server .*? failed: )?(?:[A-Z]+:  ?)?"
)


class AllHostsFailed(psycopg.OperationalError):
    """Say that no host of the conninfo took the connection; ``failures`` has one error per attempt."""

    def __init__(self, failures: Sequence[psycopg.Error]) -> None:
        tried = "; ".join(one_line(failure) for failure in failures)
        super().__init__(f"{len(failures)} attempts to connect failed: {tried}")
        self.failures = tuple(failures)


def translate(error: psycopg.Error, where: str, *, lost: bool = False) -> StorageError:
    """Return the jobrt error for ``error``, to be raised ``from`` it.

    ``where`` names host, database and user; ``lost`` says that the connection is closed, which makes any
    error without an sqlstate a passing one. The message is one line and never holds the password.
    """
    message = f"{where}: {one_line(error)}"
    if error.sqlstate in _SCHEMA_STATES:
        return SchemaError(f"{message}; run `python -m jobrt migrate`")
    if _is_transient(error, lost=lost):
        return StorageUnavailable(message)
    return StorageError(message)


def one_line(error: psycopg.Error) -> str:
    """Return the first line of what the server or libpq said, without libpq's preamble."""
    primary = error.diag.message_primary
    if primary is None:
        lines = str(error).strip().splitlines()
        primary = _PREFIX.sub("", lines[0].strip(), count=1) if lines else ""
    return " ".join(primary.split()) or type(error).__name__


def _is_transient(error: psycopg.Error, *, lost: bool) -> bool:
    state = error.sqlstate
    if isinstance(error, AllHostsFailed):
        return any(_is_transient(failure, lost=lost) for failure in error.failures)
    if state is not None:
        return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES
    if lost or isinstance(error, psycopg.OperationalError):
        return _REFUSED.search(str(error)) is None
    return False
