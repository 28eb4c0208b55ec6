"""URLs of databases: what they name, and how they are shown without their secrets.

An unencoded ``@``, ``/``, ``:`` or ``?`` in a password makes libpq take a part of it for a host, a port or a database,
and print that part in an error. Such URLs are refused here, before libpq sees them. The message quotes nothing that
could be a part of the password.
"""

import re
import shlex
from typing import Final
from urllib.parse import unquote

import attrs

from jobrt.errors import StorageError

_HOW: Final = "use sqlite:///FILE, sqlite:///:memory: or postgresql://USER@HOST/DATABASE"
_MASK: Final = "***"
_POSTGRES: Final = frozenset({"postgresql", "postgres"})
_SECRET: Final = re.compile("password|secret|scram", re.IGNORECASE)
"""Parts of the names of libpq's parameters with secret values."""
_HARMLESS: Final = re.compile(r"[\w.\-/\\]{0,200}|sqlite:[^@]{0,500}")
"""Malformed URLs that are quoted: a file name without scheme, and a URL of SQLite, which has no password."""
_PARAMETER: Final = re.compile(r"[a-z_%0-9A-F]+=[^@]*")
"""Parameter of a URL. An @ in it may belong to a password with a question mark."""
_ENCODE: Final = "write @ : / ? in a user name, password or parameter as %40 %3A %2F %3F"


@attrs.frozen
class Address:
    """Database that a URL names: the engine, and its file (``:memory:`` too) or conninfo."""

    engine: str
    target: str = attrs.field(repr=False)  # may have a password


def parse_url(url: str) -> Address:
    """Return what a URL names.

    ``sqlite:///jobs.db`` is a relative path, ``sqlite:////var/jobs.db`` an absolute one.

    Raises:
        StorageError: the URL is malformed, or of another engine. The message contains no part of a password.

    """
    address = _parse(url)
    if isinstance(address, Address):
        return address
    raise StorageError(f"{safe_url(url)} is not a database URL: {address}")


def _parse(url: str) -> Address | str:
    """Return what a URL names, or what is wrong with it."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite" and (path := rest.removeprefix("/")):
        if "?" in path:
            return "a SQLite URL takes no options after a question mark: use sqlite:///FILE"
        return Address("sqlite", path) if "\0" not in path else "a file name has no \\x00"
    if separator and scheme in _POSTGRES:
        return _problem(rest) or Address("postgres", url)
    return _HOW


def _problem(rest: str) -> str | None:
    """Return why libpq would misunderstand a URL; `rest` is what follows the scheme."""
    authority, path, query = _split(rest)
    user, _, hosts = authority.rpartition("@")
    if not rest.isprintable() or " " in rest:
        return "it has a space or a control character: write them as %20 and the like"
    if re.search("%(?![0-9a-fA-F]{2})|%00", rest):
        return "it has a % without two hexadecimal digits: write % as %25"
    if "@" in user or "@" in path:
        return f"it has an @ too many: {_ENCODE}"
    if not all(re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?", host) for host in hosts.split(",")):
        return f"a port is not a number: {_ENCODE}"
    if not all(_PARAMETER.fullmatch(pair) for pair in query.split("&") if pair):
        return f"its parameters are malformed: write ?NAME=VALUE&NAME=VALUE; {_ENCODE}"
    return None


def _split(rest: str) -> tuple[str, str, str]:
    """Return user and hosts, database, and parameters of what follows the scheme of a URL."""
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    return authority, slash + path, query


def safe_url(url: str) -> str:
    """Return a URL for messages: passwords are replaced by ``***``; of a malformed one only the scheme is left."""
    address = _parse(url)
    scheme, separator, rest = url.partition("://")
    if isinstance(address, str):
        if _HARMLESS.fullmatch(url):
            return repr(url)
        return f"{scheme}://…" if separator and re.fullmatch("[a-z][a-z0-9+]{0,20}", scheme) else "the text"
    if address.engine == "sqlite":
        return url
    authority, path, query = _split(rest)
    user, at, hosts = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    masked = f"{name}{colon}{_MASK if colon else ''}{at}{hosts}{path}"
    parameters = "&".join(_masked(pair) for pair in query.split("&"))
    return f"{scheme}://{masked}{'?' if query else ''}{parameters}"


def _masked(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}{equals}{_MASK}" if _SECRET.search(unquote(name)) else parameter


def migrate_remedy(url: str, schema: str = "jobrt") -> str:
    """Return the remedy for a database that is not migrated, with a command that can be typed as it is.

    The command names the database, so it migrates no other. It asks for the application where a URL cannot say the
    schema.
    """
    if schema != "jobrt":
        return (
            f"run `python -m jobrt --app MODULE:ATTR migrate` with the application of the schema {schema!r}"
        )
    shown = safe_url(url)
    hint = f", with the password for {_MASK}" if shown != url else ""
    return f"run `python -m jobrt --url {shlex.quote(shown)} migrate`{hint}"
