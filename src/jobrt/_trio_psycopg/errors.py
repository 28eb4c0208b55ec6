"""Translation of psycopg errors to jobrt errors: whether a storage call may be retried.

::

    sqlstate                                   becomes             reason
    08xxx 53xxx 57xxx 58xxx                    StorageUnavailable  connection, resources, operator, system
    40001 40003 40P01 55P03 25006 25P03 25P04  StorageUnavailable  conflict, lock, read-only server, timeout
    26000 42P05, 0A000 42804 of a cached plan  StorageUnavailable  the session is stale, see `is_stale`
    42P01 42703 42704 42883 3F000              SchemaMissing       no such table, column, type or schema
    any other                                  StorageError        the same call would fail again
    none, connection lost or not made          StorageUnavailable  unless `_REFUSED` matches the text
    none otherwise                             StorageError        the driver was used incorrectly

If a connection is refused, libpq has the error's text, but not its sqlstate. `_REFUSED` matches the English texts
of permanent errors (password, role, database, pg_hba.conf, TLS). Any other text, for example a translated one,
counts as transient: a worker keeps trying, and shows the message.
"""

import re
from collections.abc import Sequence

import psycopg

from jobrt.errors import SchemaError, StorageError, StorageUnavailable

_TRANSIENT_CLASSES = frozenset({"08", "53", "57", "58"})
_TRANSIENT_STATES = frozenset({"25006", "25P03", "25P04", "40001", "40003", "40P01", "55P03"})
_SCHEMA_STATES = frozenset({"42P01", "42703", "42704", "42883", "3F000"})

_UNPREPARED = frozenset({"26000", "42P05"})
_INTERNAL = "XX000"
_DAMAGED = frozenset({"XX001", "XX002"})  # data, index
_UNSUPPORTED = "0A000"
_MISMATCH = "42804"

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
    """Raised when no host of the conninfo accepted the connection; ``failures`` has an error per attempt."""

    def __init__(self, failures: Sequence[psycopg.Error]) -> None:
        reasons = "; ".join(one_line(failure) for failure in failures)
        super().__init__(f"{len(failures)} attempts to connect failed: {reasons}")
        self.failures = tuple(failures)


class SchemaMissing(SchemaError, StorageUnavailable):
    """Raised when a table, a column or a type is missing.

    A worker checks the schema before it starts. So what is missing later was dropped, most likely by a restore that is
    still going on: for a worker this is an outage, and another try may succeed.
    """


def translate(error: psycopg.Error, where: str, *, lost: bool = False) -> StorageError:
    """Return the jobrt error for a psycopg error.

    ``where`` has database, host and user for the message. ``lost`` means that the connection is closed; then an
    error without an sqlstate is transient. The message is one line, without the password.
    """
    message = f"{where}: {one_line(error)}"
    if error.sqlstate in _SCHEMA_STATES:
        return SchemaMissing(f"{message}; migrate this database")
    if _is_transient(error, lost=lost):
        return StorageUnavailable(message)
    if error.sqlstate in _DAMAGED:
        return StorageError(
            f"{message}; the database is damaged: REINDEX what is an index, or restore a backup"
        )
    return StorageError(message)


def is_stale(error: BaseException | None) -> bool:
    """Return whether an error means that the session does not fit the database any more.

    Then a new connection helps, and the failed statement had no effect:

    * Its prepared statement is gone, or another has its name: somebody ran DISCARD, or a pooler shares sessions.
    * A table was altered, so that the statement returns other types: "cached plan must not change result type".
    * A column got another type, so that it does not fit the plans of a function: "type of parameter 4 (character
      varying) does not match that when preparing the plan (text)", "attribute 3 has wrong type".
    * An object was dropped and made again, as by a restore: "cache lookup failed for type 12345". This is an internal
      error, and so are its relatives. As no statement of jobrt should cause any, all of them count.
    """
    if not isinstance(error, psycopg.Error):
        return False
    # Unlike the message, the name of the function that reports it is not translated.
    reporter = error.diag.source_function or ""
    if error.sqlstate == _UNSUPPORTED:
        return reporter == "RevalidateCachedQuery"
    if error.sqlstate == _MISMATCH:
        return reporter.startswith(("plpgsql_param_", "ExecEvalParam", "CheckVar"))
    return error.sqlstate in _UNPREPARED or error.sqlstate == _INTERNAL


def unsendable(error: UnicodeEncodeError, where: str) -> StorageError:
    """Return the jobrt error for a text that the encoding of a caller's connection does not have."""
    character = ascii(error.object[error.start])
    return StorageError(
        f"{where}: the connection's encoding {error.encoding} has no character {character}:"
        " set its client_encoding to UTF8"
    )


def one_line(error: psycopg.Error) -> str:
    """Return the first line of the message of the server or of libpq, without libpq's prefix."""
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
        if state != _INTERNAL and is_stale(error):
            return True
        return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES
    if lost or isinstance(error, psycopg.OperationalError):
        return _REFUSED.search(str(error)) is None
    return False
