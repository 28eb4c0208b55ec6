"""Application and database that a command works on."""

import functools
import importlib
import operator
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import click
import trio

from jobrt.app import App

R = TypeVar("R")


@attrs.frozen
class Setting:
    """Values of ``--app`` (``address``) and ``--url``."""

    address: str | None
    url: str | None

    def app(self) -> App:
        """Return the application. Without an address, return an application without jobs, to access the database.

        Raises:
            click.ClickException: the module or the attribute does not exist, or is not an application.

        """
        if self.address is None:
            return App(self.url)
        app = _load(self.address)
        if self.url is not None:
            app.move_to(self.url)
        return app

    def arguments(self) -> list[str]:
        """Return the arguments that pass this setting to another process."""
        given = {"--app": self.address, "--url": self.url}
        return [f"{option}={value}" for option, value in given.items() if value is not None]

    def app_with_jobs(self) -> App:
        """Return the application; raise `click.UsageError` if no address was given."""
        if self.address is None:
            msg = "no application given: pass --app MODULE:ATTR or set JOBRT_APP"
            raise click.UsageError(msg)
        return self.app()


def _load(address: str) -> App:
    module_name, _, attribute = address.partition(":")
    if not module_name or not attribute:
        msg = f"--app {address!r} is not MODULE:ATTR: write it as shop.jobs:app"
        raise click.UsageError(msg)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path needs a str
    try:
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
    """Turn an async function into a command that runs it in Trio, with the `Setting` as its first argument."""

    @click.pass_obj
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> R:
        return trio.run(functools.partial(function, *args, **kwargs))

    return run
