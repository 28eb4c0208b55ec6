"""The `health` command, which asks a worker's probe: for the HEALTHCHECK of a container."""

import os
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import click

from jobrt.cli.output import say, warn
from jobrt.cli.probing import HTTP_VARIABLE, parse_address
from jobrt.cli.selection import Seconds

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses that a worker may listen on, not this command
_BODY_LIMIT = 10_000


@click.command(short_help="Ask a worker whether it lives.")
@click.option(
    "--url",
    metavar="URL",
    show_default=f"/livez of the worker at {HTTP_VARIABLE}",
    help="Probe to ask, such as http://127.0.0.1:9464/readyz. Without a path, /livez.",
)
@click.option(
    "--seconds",
    type=Seconds(0.1),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
def health(url: str | None, seconds: float) -> int:
    """Ask a worker whether it lives. Exit with status 1 if it does not, or does not answer.

    For the HEALTHCHECK of a container: a database that is away does not make a worker unhealthy. To ask whether it
    works, use the path /readyz.
    """
    host, port, path = _target(url)
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    try:
        with closing(HTTPConnection(host, port, timeout=seconds)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            status, text = response.status, response.read(_BODY_LIMIT).decode(errors="replace")
    except (OSError, HTTPException) as error:
        reason = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else error
        warn(f"{place}: {reason}")
        return 1
    if status == 200:  # noqa: PLR2004 - OK
        say(f"{place}: {text.strip()}")
        return 0
    warn(f"{place}: {'; '.join(text.split(chr(10))).strip('; ') or f'status {status}'}")
    return 1


def _target(url: str | None) -> tuple[str, int, str]:
    """Return host, port and path of the probe to ask; raise `click.UsageError`."""
    if url is None:
        given = os.environ.get(HTTP_VARIABLE)
        if not given:
            msg = f"no worker to ask: pass --url http://HOST:PORT, or set {HTTP_VARIABLE} as for the worker"
            raise click.UsageError(msg)
        address = parse_address(given)
        return _ANY.get(address.host, address.host), address.port, "/livez"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme != "http" or not host or not parts.path.isascii():
        msg = f"--url {url!r} is not the address of a probe: write it as http://127.0.0.1:9464/livez"
        raise click.UsageError(msg)
    path = parts.path if parts.path not in {"", "/"} else "/livez"
    return host, port or 80, path


COMMANDS = (health,)
