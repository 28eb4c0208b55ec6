"""Find the application that a command is about."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
import trio

from jobrt.app import App

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Setting", "in_trio"]

R = TypeVar("R")


@attrs.frozen
class Setting:
    """What was said before the command: the application's address and the database's."""

    address: str | None
    url: str | None

    def app(self) -> App:
        """Return the application; one that knows no jobs, only the database, if none was named.

        Raises:
            click.ClickException: there is no such module or attribute, or it is no application.

        """
        if self.address is None:
            return App(self.url)
        app = _loaded(self.address)
        if self.url is not None:
            app.move_to(self.url)
        return app

    def arguments(self) -> list[str]:
        """Return what says the same on another command line."""
        given = {"--app": self.address, "--url": self.url}
        return [f"{option}={value}" for option, value in given.items() if value is not None]

    def app_with_jobs(self) -> App:
        """Return the application; raise `click.UsageError` if none was named."""
        if self.address is None:
            msg = "this needs your jobs: name them with --app MODULE:ATTR, or JOBRT_APP"
            raise click.UsageError(msg)
        return self.app()


def _loaded(address: str) -> App:
    module_name, _, attribute = address.partition(":")
    if not module_name or not attribute:
        msg = f"--app {address!r}: give a module and what the app is called in it, e.g. shop.jobs:app"
        raise click.UsageError(msg)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a text, as sys.path wants
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if os.environ.get("JOBRT_DEBUG"):
            raise
        said = " ".join(str(error).split())
        msg = f"--app {address}: cannot import {module_name}: {type(error).__name__}: {said}"
        raise click.ClickException(msg) from error
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, App):
        what = "there is no such thing in it" if found is None else f"that is {type(found).__name__!r}"
        msg = f"--app {address}: {attribute} is to be a jobrt.App, but {what}"
        raise click.ClickException(msg)
    return found


def in_trio(function: Callable[..., Awaitable[R]]) -> Callable[..., R]:
    """Let a command be an async function."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> R:
        return trio.run(functools.partial(function, *args, **kwargs))

    return run
