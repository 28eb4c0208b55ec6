"""Serve the dashboard."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import click

from jobrt.cli.setting import Setting, in_trio

__all__ = ["COMMANDS"]

_PASSWORD: Final = "JOBRT_DASHBOARD_PASSWORD"  # noqa: S105 - the name of a variable


@click.command(short_help="Serve pages that show and manage everything.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0: a free one."
)
@click.option("--read-only", is_flag=True, help="Show everything, change nothing.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers reach it, through a proxy say; repeat for more.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help=f"Ask for the password in this file's first line; or set {_PASSWORD}.",
)
@click.pass_obj
@in_trio
async def dashboard(
    setting: Setting,
    host: str,
    port: int,
    read_only: bool,
    hosts: tuple[str, ...],
    password_file: Path | None,
) -> None:
    """Serve pages that show queues, jobs, workers and cron entries, and let you manage them, until Ctrl-C.

    Only this machine can reach them, unless --host says otherwise; then a password is needed. There is no TLS:
    put a proxy before it where others could listen.
    """
    password = _password(password_file)
    if password is None and not _is_loopback(host):
        msg = f"others can reach --host {host}: set a password, in {_PASSWORD} or with --password-file"
        raise click.ClickException(msg)
    try:
        from jobrt.dashboard.serving import serve  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jobrt"):
            raise
        name = (error.name or "").partition(".")[0]
        msg = f"the dashboard needs {name}: pip install 'jobrt[dashboard]'"
        raise click.ClickException(msg) from error
    await serve(
        setting.app(),
        host=host,
        port=port,
        tell=lambda address: click.echo(f"dashboard at {address} (Ctrl-C ends it)"),
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
        msg = f"--password-file {file} cannot be read: {error}"
        raise click.ClickException(msg) from error
    if not password:
        msg = f"--password-file {file}: its first line is empty"
        raise click.ClickException(msg)
    return password


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


COMMANDS = (dashboard,)
