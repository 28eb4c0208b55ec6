"""Application and database that a command works on."""

from __future__ import annotations

import functools
import importlib
import operator
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import click
import trio

from jobrt._core.attempts import only_leaf
from jobrt._core.database_url import migrate_remedy, parse_url
from jobrt._storage.sql_files import Unmigrated
from jobrt.app import App
from jobrt.cli.interrupts import cancelled_by_interrupt, interrupted_at_once

R = TypeVar("R")
_HANDED_OVER = "JOBRT_URL_OF_PARENT"
"""Variable in which a parent process passes its ``--url``."""


@attrs.frozen
class Setting:
    """Values of ``--app`` (``address``) and ``--url``."""

    address: str | None
    url: str | None = attrs.field(repr=False)  # may have a password

    @classmethod
    def from_options(cls, address: str | None, url: str | None) -> Setting:
        """Return the setting that was typed, or that a parent process has handed over."""
        handed_over = os.environ.pop(_HANDED_OVER, None)  # processes that jobs start must not inherit it
        return cls(address, url if handed_over is None else handed_over)

    def app(self, *, create: bool = True) -> App:
        """Return the application. Without an address, return an application without jobs, to access the database.

        Args:
            create: whether the file of a database that does not exist yet is made, as everywhere; False for a command
                that only asks what is there.

        Raises:
            click.ClickException: the module or the attribute does not exist, or is not an application; or there is no
                database.

        """
        app = App(self.url) if self.address is None else _load(self.address)
        if self.address is not None and self.url is not None:
            app.move_to(self.url)
        if not create and (missing := missing_file(app.url)):
            msg = f"there is no database {missing}: check --url and JOBRT_URL, or make it: {self.remedy(app)}"
            raise click.ClickException(msg)
        return app

    def remedy(self, app: App) -> str:
        """Return the command that migrates the database of this setting, to be typed as it is."""
        if self.address is None or self.url is not None:
            return migrate_remedy(app.url)
        return f"run `python -m jobrt --app {shlex.quote(self.address)} migrate`"

    @contextmanager
    def handed_over(self) -> Generator[list[str]]:
        """Provide the arguments that pass this setting to child processes that are started in the block.

        The URL may have a password, and other users of the machine can read arguments. So it is in the environment.
        """
        if self.url is not None:
            os.environ[_HANDED_OVER] = self.url
        try:
            yield [] if self.address is None else [f"--app={self.address}"]
        finally:
            os.environ.pop(_HANDED_OVER, None)

    def app_with_jobs(self) -> App:
        """Return the application; raise `click.UsageError` if no address was given."""
        if self.address is None:
            msg = "no application given: pass --app MODULE:ATTR or set JOBRT_APP"
            raise click.UsageError(msg)
        return self.app()


def missing_file(url: str) -> str | None:
    """Return the path of a SQLite file that does not exist."""
    address = parse_url(url)
    if address.engine != "sqlite" or address.target == ":memory:" or os.path.lexists(address.target):
        return None
    return address.target


def _load(address: str) -> App:
    module_name, _, attribute = address.partition(":")
    if not module_name or not attribute:
        msg = f"--app {address!r} is not MODULE:ATTR: write it as shop.jobs:app"
        raise click.UsageError(msg)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path needs a str
    try:
        with interrupted_at_once():
            module = importlib.import_module(module_name)
    except Exception as error:
        if os.environ.get("JOBRT_DEBUG"):
            raise
        reason = " ".join(str(error).split())
        msg = f"--app {address}: cannot import {module_name}: {type(error).__name__}: {reason}"
        raise click.ClickException(msg) from error
    try:
        found = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        msg = f"--app {address}: {error}"
        raise click.ClickException(msg) from error
    if not isinstance(found, App):
        msg = f"--app {address}: {attribute} is of type {type(found).__name__}, not a jobrt.App"
        raise click.ClickException(msg)
    return found


def in_trio(function: Callable[..., Awaitable[R]]) -> Callable[..., R]:
    """Turn an async function into a command that runs it in Trio, with the `Setting` as its first argument.

    Ctrl-C cancels it.
    """

    @click.pass_obj
    @functools.wraps(function)
    def run(setting: Setting, /, *args: Any, **kwargs: Any) -> R:
        try:
            command = functools.partial(function, setting, *args, **kwargs)
            return trio.run(cancelled_by_interrupt, command)
        except Exception as raised:
            error = only_leaf(raised)
            if not isinstance(error, Unmigrated) or setting.address is None or setting.url is not None:
                raise
            msg = f"{error.problem}: {setting.remedy(setting.app())}"
            raise click.ClickException(msg) from error

    return run
