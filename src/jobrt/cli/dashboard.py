"""The `dashboard` command."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import click

from jobrt.cli.log import set_up_logging
from jobrt.cli.output import say
from jobrt.cli.setting import Setting, in_trio

_PASSWORD: Final = "JOBRT_DASHBOARD_PASSWORD"  # noqa: S105 - the name of a variable


@click.command(short_help="Serve the web dashboard.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 picks a free port.",
)
@click.option("--read-only", is_flag=True, help="Show everything, but allow no changes.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Host name in the dashboard's URL, for example behind a proxy. Repeatable.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help=f"File with the password in its first line. You can set {_PASSWORD} instead.",
)
@in_trio
async def dashboard(
    setting: Setting,
    host: str,
    port: int,
    read_only: bool,
    hosts: tuple[str, ...],
    password_file: Path | None,
) -> None:
    """Serve web pages to watch and manage queues, jobs, workers and cron entries. Press Ctrl-C to stop.

    By default, only this machine can connect. To allow other machines, pass --host and set a password. The
    dashboard does not use TLS: on a network that you do not trust, put a reverse proxy in front of it.
    """
    password = _password(password_file)
    if password is None and not _is_loopback(host):
        msg = f"--host {host} allows other machines to connect: set a password with {_PASSWORD} or --password-file"
        raise click.ClickException(msg)
    try:
        from jobrt.dashboard.serving import serve  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jobrt"):
            raise
        name = (error.name or "").partition(".")[0]
        msg = f"the dashboard needs {name}: pip install 'jobrt[dashboard]'"
        raise click.ClickException(msg) from error
    app = setting.app()
    set_up_logging(verbose=False, quiet=False, log_format=None)
    await serve(
        app,
        host=host,
        port=port,
        on_ready=lambda address: say(f"dashboard at {address} (press Ctrl-C to stop)"),
        hosts=(host, *hosts),
        password=password,
        read_only=read_only,
    )


def _password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_PASSWORD) or None
    try:
        password = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read --password-file {file}: {error}"
        raise click.ClickException(msg) from error
    if not password:
        msg = f"--password-file {file} contains no password: its first line is empty"
        raise click.ClickException(msg)
    return password


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


COMMANDS = (dashboard,)
