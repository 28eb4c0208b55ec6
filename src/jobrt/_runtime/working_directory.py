"""The current directory, put back after jobs that change it."""

import logging
import os

import attrs

_logger = logging.getLogger("jobrt")


def _current() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - asked after each attempt: a Path costs as much again
    except OSError:
        return None  # it was deleted under us, as deployments do


@attrs.define(eq=False)
class WorkingDirectory:
    """The directory of the process when this was made.

    The directory belongs to the whole process, so jobs that run at once share it. The next job finds it unchanged.
    """

    path: str | None = attrs.Factory(_current)

    def restore(self) -> None:
        """Return to it if a job has left it. Costs half a microsecond."""
        if self.path is None or _current() == self.path:
            return
        try:
            os.chdir(self.path)
        except OSError as error:
            _logger.warning("a job changed the current directory, and it cannot be restored: %s", error)
            self.path = None
