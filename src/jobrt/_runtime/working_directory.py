"""The current directory, restored after jobs that change it."""

import logging
import os

import attrs

_logger = logging.getLogger("jobrt")


def _current() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - called after each attempt, and a Path doubles the cost
    except OSError:
        return None  # the directory was deleted, as deployments do


@attrs.define(eq=False)
class WorkingDirectory:
    """Current directory of the process when this object was created.

    The directory belongs to the whole process, so concurrent jobs share it. It is restored for the next job.
    """

    path: str | None = attrs.Factory(_current)

    def restore(self) -> None:
        """Change back to the directory if a job has left it. Costs half a microsecond."""
        if self.path is None or _current() == self.path:
            return
        try:
            os.chdir(self.path)
        except OSError as error:
            _logger.warning("a job changed the current directory, and it cannot be restored: %s", error)
            self.path = None
