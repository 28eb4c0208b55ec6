"""Keep the current directory where the worker was started, whatever a job did to it."""

from __future__ import annotations

import logging
import os

import attrs

__all__ = ["Home"]

_logger = logging.getLogger("jobrt")


def _current() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - asked after each attempt: a Path costs as much again
    except OSError:
        return None  # it was deleted under us, as deployments do


@attrs.define(eq=False)
class Home:
    """The directory of the process when this was made.

    It is the whole process's, so jobs that run at once share it; but what one leaves behind is not the next one's.
    """

    path: str | None = attrs.Factory(_current)

    def go_back(self) -> None:
        """Return to it if somebody has left it. Costs half a microsecond."""
        if self.path is None or _current() == self.path:
            return
        try:
            os.chdir(self.path)
        except OSError as error:
            _logger.warning("a job changed the current directory, and there is no way back: %s", error)
            self.path = None
