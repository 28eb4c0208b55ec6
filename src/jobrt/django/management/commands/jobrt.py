"""``manage.py jobrt``: the command line of jobrt, with the application of this project."""

import argparse
import sys
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from jobrt.cli import ending, main


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Command of jobrt for this project: ``manage.py jobrt worker``."""

    help = "Run a command of jobrt, such as worker, migrate, jobs or doctor, for this project."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's declaration

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take all arguments as they are."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="command of jobrt, and its options")

    def handle(self, *_: Any, arguments: list[str], **__: Any) -> None:
        """Run the command, and end the process as it does."""
        command = partial(main, ["--app", "jobrt.django:app", *arguments])
        if sys.argv[1:2] == ["jobrt"]:
            ending.run(command)
        elif status := command():
            sys.exit(status)
