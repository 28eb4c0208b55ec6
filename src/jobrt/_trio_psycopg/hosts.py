"""Hosts of a PostgreSQL connection string: their order, addresses and timeouts.

libpq does this only in its blocking functions. In the others it resolves names while it blocks the event loop, and
it neither applies ``connect_timeout`` nor tries the next host.

Missing settings have libpq's defaults: environment variables, the service of ``PGSERVICE``, and compiled-in values.
A ``service=`` in the string itself is left to libpq, which reads it while connecting.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from psycopg.abc import ConnDict


_DEFAULT_TIMEOUT: Final = 130  # seconds; about as long as Linux waits for a TCP connection
_MIN_TIMEOUT: Final = 2  # seconds; as in libpq


def describe(conninfo: str) -> str:
    """Return database, hosts and user of a conninfo for a message, without the password.

    Raises `psycopg.ProgrammingError` if the conninfo is invalid.
    """
    settings = _settings(conninfo_to_dict(conninfo))
    return address_label(
        settings.get("dbname", ""),
        settings.get("user", ""),
        host=settings.get("host", ""),
        port=settings["port"],
    )


def address_label(database: str, user: str, *, host: str, port: str) -> str:
    """Return the parts of an address as one text for a message."""
    return f"PostgreSQL {database or user} at {host or 'localhost'}:{port} as {user}"


def connect_timeout(params: ConnDict) -> float:
    """Return the time limit for connecting to an address, in seconds; raise `psycopg.ProgrammingError` if invalid."""
    value = _settings(params).get("connect_timeout", "0")
    try:
        seconds = int(value)
    except ValueError:
        raise psycopg.ProgrammingError(f"connect_timeout is {value!r}: use a number of seconds") from None
    return max(seconds, _MIN_TIMEOUT) if seconds > 0 else _DEFAULT_TIMEOUT


def split_hosts(params: ConnDict) -> list[ConnDict]:
    """Return the parameters for each host, in the order in which to try them.

    Raises:
        psycopg.ProgrammingError: the numbers of hosts, addresses and ports differ.
    """
    settings = _settings(params)
    hosts = _split(params, settings)
    if settings.get("load_balance_hosts") == "random":
        random.shuffle(hosts)
    if settings.get("target_session_attrs") == "prefer-standby":  # libpq gets only one host at a time
        hosts = [{**host, "target_session_attrs": kind} for kind in ("standby", "any") for host in hosts]
    return hosts


def _split(params: ConnDict, settings: dict[str, str]) -> list[ConnDict]:
    lists = {key: settings[key].split(",") for key in ("host", "hostaddr", "port") if settings.get(key)}
    count = max((len(lists[key]) for key in ("host", "hostaddr") if key in lists), default=1)
    if count == 1:
        return [params]
    if len(lists.get("port", ())) == 1:
        lists["port"] *= count
    for key, values in lists.items():
        if len(values) != count:
            raise psycopg.ProgrammingError(
                f"{len(values)} values for {key}, but {count} hosts: use one for each"
            )
    return [{**params, **{key: values[index] for key, values in lists.items()}} for index in range(count)]


async def resolve(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> list[ConnDict]:
    """Return the parameters for each address of a host; an error is appended to ``failures``.

    The name remains in the parameters, because the server's certificate is checked against it.
    """
    settings = _settings(host)
    name = settings.get("host", "")
    is_path = name.startswith(("/", "@")) or name[1:2] == ":"
    if not name or is_path or settings.get("hostaddr"):
        return [host]
    addresses: list[ConnDict] = []
    with attempt(host, seconds=seconds, failures=failures):
        try:
            found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise psycopg.OperationalError(f"cannot resolve the host name {name!r}: {error}") from error
        addresses = [{**host, "hostaddr": str(sockaddr[0])} for *_, sockaddr in found]
    if settings.get("load_balance_hosts") == "random":
        random.shuffle(addresses)
    return addresses


@contextmanager
def attempt(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> Generator[None]:
    """Run the block with a time limit; an error is appended to ``failures`` and not raised."""
    with trio.move_on_after(seconds) as scope:
        try:
            yield
        except psycopg.Error as error:
            failures.append(error.with_traceback(None))
    if scope.cancelled_caught:
        settings = _settings(host)
        address = f"{settings.get('host') or settings.get('hostaddr') or 'localhost'}:{settings['port']}"
        failures.append(psycopg.errors.ConnectionTimeout(f"{address} did not answer within {seconds:g} s"))


def _settings(params: ConnDict) -> dict[str, str]:
    """Return the parameters with libpq's defaults for missing ones."""
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val is not None
    }
    return defaults | {key: str(value) for key, value in params.items() if value is not None}
