"""Work out where a PostgreSQL connection string leads: its hosts in order, their addresses, the time for each.

libpq would do this itself, but it resolves names while the event loop stands still, and leaves
``connect_timeout`` and the change to the next host to those who block in it.

What the string leaves open comes from where libpq takes it: environment variables, the service that
``PGSERVICE`` names, and what was compiled in. (Only a ``service=`` in the string itself is left to libpq, which
reads it while it connects.)
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg.abc import ConnDict

__all__ = ["attempt", "connect_timeout", "describe", "name_place", "resolve", "split_hosts"]

_NO_TIMEOUT: Final = 130  # seconds; about when Linux gives up on a TCP connection that nobody answers
_LEAST_TIMEOUT: Final = 2  # seconds; libpq's own least


def describe(conninfo: str) -> str:
    """Name the database, hosts and user of a conninfo for a message; never the password.

    Raises:
        psycopg.ProgrammingError: the conninfo makes no sense.
    """
    known = _settings(conninfo_to_dict(conninfo))
    return name_place(
        known.get("dbname", ""), known.get("user", ""), host=known.get("host", ""), port=known["port"]
    )


def name_place(database: str, user: str, *, host: str, port: str) -> str:
    """Put the parts of an address together for a message."""
    return f"PostgreSQL {database or user} at {host or 'localhost'}:{port} as {user}"


def connect_timeout(params: ConnDict) -> float:
    """Return the seconds that one address may take to answer.

    Raises:
        psycopg.ProgrammingError: it is not a number.
    """
    given = _settings(params).get("connect_timeout", "0")
    try:
        seconds = int(given)
    except ValueError:
        raise psycopg.ProgrammingError(f"connect_timeout is not a number of seconds: {given!r}") from None
    return max(seconds, _LEAST_TIMEOUT) if seconds > 0 else _NO_TIMEOUT


def split_hosts(params: ConnDict) -> list[ConnDict]:
    """Return the settings for each host by itself, in the order in which to try them.

    Raises:
        psycopg.ProgrammingError: there are not as many ports or addresses as hosts.
    """
    known = _settings(params)
    hosts = _split(params, known)
    if known.get("load_balance_hosts") == "random":
        random.shuffle(hosts)
    if known.get("target_session_attrs") == "prefer-standby":  # libpq sees one host at a time
        hosts = [{**host, "target_session_attrs": kind} for kind in ("standby", "any") for host in hosts]
    return hosts


def _split(params: ConnDict, known: dict[str, str]) -> list[ConnDict]:
    lists = {key: known[key].split(",") for key in ("host", "hostaddr", "port") if known.get(key)}
    count = max((len(lists[key]) for key in ("host", "hostaddr") if key in lists), default=1)
    if count == 1:
        return [params]
    if len(lists.get("port", ())) == 1:
        lists["port"] *= count
    for key, values in lists.items():
        if len(values) != count:
            raise psycopg.ProgrammingError(f"{count} hosts, but {len(values)} values for {key}")
    return [{**params, **{key: values[index] for key, values in lists.items()}} for index in range(count)]


async def resolve(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> list[ConnDict]:
    """Return the settings for each address of one host; if there is none, note why.

    The name is kept: the server's certificate is checked against it.
    """
    known = _settings(host)
    name = known.get("host", "")
    is_path = name.startswith(("/", "@")) or name[1:2] == ":"
    if not name or is_path or known.get("hostaddr"):
        return [host]
    addresses: list[ConnDict] = []
    with attempt(host, seconds=seconds, failures=failures):
        try:
            found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise psycopg.OperationalError(f"cannot resolve the host name {name!r}: {error}") from error
        addresses = [{**host, "hostaddr": str(sockaddr[0])} for *_, sockaddr in found]
    if known.get("load_balance_hosts") == "random":
        random.shuffle(addresses)
    return addresses


@contextmanager
def attempt(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> Generator[None]:
    """Give the block ``seconds`` to connect to ``host``; note its failure instead of raising it."""
    with trio.move_on_after(seconds) as scope:
        try:
            yield
        except psycopg.Error as error:
            failures.append(error.with_traceback(None))
    if scope.cancelled_caught:
        known = _settings(host)
        place = f"{known.get('host') or known.get('hostaddr') or 'localhost'}:{known['port']}"
        failures.append(psycopg.errors.ConnectionTimeout(f"{place} did not answer within {seconds:g} s"))


def _settings(params: ConnDict) -> dict[str, str]:
    """Fill up what the parameters leave open, as libpq will."""
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val is not None
    }
    return defaults | {key: str(value) for key, value in params.items() if value is not None}
