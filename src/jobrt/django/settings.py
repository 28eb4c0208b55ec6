"""Options of a backend in ``TASKS``, checked."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs
from django.db import connections
from django.tasks.exceptions import InvalidTaskBackend  # pyright: ignore[reportMissingImports] # Django 6

from jobrt._core.arguments import did_you_mean, is_int, shown
from jobrt.blocking import Client
from jobrt.errors import JobrtError

_PASSED_ON: Final = frozenset({"schema", "listen", "queues", "keep", "grace", "lease", "payload_limit"})
"""Options that are those of `jobrt.App`."""
_KNOWN: Final = _PASSED_ON | {"url", "database", "max_attempts", "timeout"}


@attrs.frozen(kw_only=True)
class Options:
    """Options of one backend.

    Args:
        alias: name of the backend in ``TASKS``, for messages.
        url: database of the jobs; None: that of `database`.
        database: alias of Django's database in whose transactions tasks are enqueued; None: in none of Django's.
        max_attempts: attempts of a task that raises; None: one.
        timeout: seconds that an attempt may take.
        app: options of `jobrt.App`.

    """

    alias: str
    url: str | None = attrs.field(repr=False)  # may have a password
    database: str | None
    max_attempts: int | None
    timeout: float | None
    app: Mapping[str, Any]

    @classmethod
    def of(cls, alias: str, given: Mapping[str, Any]) -> "Options":
        """Return the options of a backend.

        Raises:
            InvalidTaskBackend: an option is unknown, missing or invalid; one line names it.

        """
        for name in sorted(set(given) - _KNOWN):
            raise invalid(alias, f"the option {shown(name)} is unknown: {did_you_mean(name, sorted(_KNOWN))}")
        url, database, limit = given.get("url"), given.get("database"), given.get("max_attempts")
        if url is None and database is None:
            remedy = "add 'url' (sqlite:///FILE or postgresql://…), or 'database' (the alias of a database of Django)"
            raise invalid(alias, f"it is not said where jobs are stored: {remedy}")
        if database is not None and database not in _aliases():
            raise invalid(
                alias, f"'database' is {shown(database)}: {did_you_mean(str(database), _aliases())}"
            )
        if limit is not None and not (is_int(limit) and limit >= 1):
            raise invalid(
                alias, f"'max_attempts' is {shown(limit)}: use an int of at least 1, or leave it out"
            )
        app = {name: value for name, value in given.items() if name in _PASSED_ON}
        return cls(
            alias=alias, url=url, database=database, max_attempts=limit, timeout=given.get("timeout"), app=app
        )

    def database_url(self) -> str:
        """Return the URL of the database of the jobs."""
        return self.url or _url_of(self.alias, str(self.database))

    def client(self) -> Client:
        """Return the client for the database, which all threads of the process share."""
        given = {name: self.app[name] for name in ("schema", "listen", "payload_limit") if name in self.app}
        try:
            return _client(self.database_url(), tuple(given.items()))
        except JobrtError as error:
            raise invalid(self.alias, str(error)) from error

    def connection(self) -> Any:
        """Return Django's connection of this thread whose transaction an enqueue joins, or None."""
        return None if self.database is None else connections[self.database]


def _aliases() -> list[str]:
    return sorted(connections)


def invalid(alias: str, problem: str) -> Exception:
    """Return the error for the options of a backend."""
    error: Exception = InvalidTaskBackend(f"TASKS[{alias!r}]: {problem}")
    return error


@lru_cache(maxsize=32)
def _client(url: str, options: tuple[tuple[str, Any], ...]) -> Client:
    """Return a client. Django makes a backend for each thread; connections are made once."""
    return Client(url, **dict(options))


def _url_of(alias: str, database: str) -> str:
    """Return the URL of a database of Django. It is asked for each time: tests replace the database's name."""
    aliases: Any = connections.settings
    settings: Mapping[str, Any] = aliases[database]
    match settings["ENGINE"].rpartition(".")[2]:
        case "sqlite3":
            name = str(settings["NAME"])
            if name.startswith("file:") or name == ":memory:":
                raise invalid(
                    alias, f"the database {database!r} is in memory, where no worker finds jobs: use a file"
                )
            return f"sqlite:///{Path(name).absolute()}"
        case "postgresql":
            return _postgres_url(connections[database].get_connection_params())
        case engine:
            raise invalid(
                alias, f"the database {database!r} is of {engine}: jobrt has SQLite and PostgreSQL; use 'url'"
            )


_OF_DJANGO: Final = frozenset(
    {
        "client_encoding",
        "context",
        "cursor_factory",
        "prepare_threshold",
        "server_side_binding",
        "row_factory",
    }
)
"""Parameters of Django's connections that mean something to the driver alone."""


def _postgres_url(params: Mapping[str, Any]) -> str:
    """Return a URL with the parameters of libpq."""
    rest = {name: value for name, value in params.items() if name not in _OF_DJANGO and value is not None}
    user, password = rest.pop("user", None), rest.pop("password", None)
    name = quote(str(rest.pop("dbname", "")), safe="")
    who = "" if user is None else quote(str(user), safe="")
    if password is not None:
        who += f":{quote(str(password), safe='')}"
    query = urlencode({key: str(value) for key, value in rest.items()}, quote_via=quote)
    return f"postgresql://{who}{'@' if who else ''}/{name}{'?' if query else ''}{query}"
