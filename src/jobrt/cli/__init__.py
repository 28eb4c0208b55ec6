"""Command line: ``python -m jobrt``, or ``jobrt``.

::

    __init__   the command group, and how errors are printed
    worker · demo · jobs · follow · queues · crons · workers · doctor · admin · bench · dashboard     commands, by topic
    processes  several worker processes under one parent      startup    waiting for the database, startup reports
    signals    signals to stop, heard by a thread             guard      kills a worker that cannot end itself
    ending     the end of the process, in time                log        logging of the `worker` command
    interrupts Ctrl-C during a command                        output     tables, lines, JSON, progress
    selection  options that select jobs                       setting    --app and --url
"""

import io
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from jobrt._core.attempts import only_leaf
from jobrt.cli import (
    admin,
    bench,
    crons,
    dashboard,
    demo,
    doctor,
    ending,
    follow,
    health,
    jobs,
    queues,
    top,
    worker,
    workers,
)
from jobrt.cli.output import in_one_line, warn
from jobrt.cli.setting import Setting

__all__ = ["main", "run"]


class _ReaderGone(Exception):
    """Raised when the reader of standard output has closed the pipe."""


class _Commands(click.Group):
    """Group that tells a closed pipe from other errors. click itself would exit with status 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line; ``--help`` prints here."""
        with _pipe_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _pipe_errors():
            return super().invoke(ctx)


@contextmanager
def _pipe_errors() -> Generator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(only_leaf(error), BrokenPipeError):
            raise _ReaderGone from error
        raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--app",
    metavar="MODULE:ATTR",
    envvar="JOBRT_APP",
    show_envvar=True,
    help="Application to use, such as shop.jobs:app.",
)
@click.option(
    "--url",
    metavar="URL",
    show_default="the application's, then JOBRT_URL, then sqlite:///jobrt.db",
    help="Database to use.",
)
@click.version_option(package_name="jobrt")
@click.pass_context
def cli(context: click.Context, app: str | None, url: str | None) -> None:
    """Run and manage durable background jobs."""
    context.obj = Setting.from_options(app, url)


_MODULES = (worker, demo, jobs, follow, queues, crons, workers, top, doctor, health, admin, bench, dashboard)
for _module in _MODULES:
    for _command in _module.COMMANDS:
        cli.add_command(_command)


def run() -> NoReturn:
    """Run a command as this process, and end the process."""
    ending.run(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 success, 1 error, 2 usage error, 130 interrupted.

    A reader that closes the pipe, as `head` does, has seen enough: that is a success.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has every character
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, _ReaderGone):
        status = 0
    _discard_if_unread()
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = cli.main(arguments, prog_name="jobrt", standalone_mode=False)
    except click.ClickException as error:
        return _print_usage_error(error)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except _ReaderGone:
        raise
    except BaseExceptionGroup as group:
        if isinstance(only_leaf(group), KeyboardInterrupt):
            return 130
        if not isinstance(group, Exception):
            raise
        return _print_error(group)
    except Exception as error:  # noqa: BLE001 - the last place where an error can become one clear line
        return _print_error(error)
    return status if isinstance(status, int) else 0


def _discard_if_unread() -> None:
    """Drop what a closed pipe did not take. Otherwise the interpreter fails when it flushes its streams at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print_usage_error(error: click.ClickException) -> int:
    """Print what is wrong with the command line as one line; `jobrt` without arguments prints its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (see {context.command_path} --help)" if context else ""
    warn(f"{in_one_line(error)}{hint}")
    return error.exit_code


def _print_error(error: Exception) -> int:
    if os.environ.get("JOBRT_DEBUG"):
        raise only_leaf(error)
    warn(in_one_line(error))
    return 1
