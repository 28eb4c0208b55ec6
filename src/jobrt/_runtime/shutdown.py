"""Last steps of a stop. Each is tried, even if earlier ones failed, and has a time limit."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio

from jobrt.errors import StorageError, StorageUnavailable

_OUTCOMES = 0.75
"""Share of the time for the first step, writing outcomes: the job of an unwritten outcome runs again."""
_RESERVE = 0.9
"""Share of the caller's time that is used, so that the caller gets the error before its own limit."""


async def sign_off(
    steps: Mapping[str, Callable[[], Awaitable[Any]]], *, seconds: float
) -> StorageError | None:
    """Run all steps, the outcomes first; return the first `StorageError`, if there was one.

    Time that a quick step does not use is left to those after it. A step that gets no reply takes only its share.

    Raises:
        Exception: the first error that is not a `StorageError`; it is raised after all steps were tried.

    """
    now = trio.current_time()
    end = now + min(seconds, _RESERVE * (trio.current_effective_deadline() - now))
    errors: list[Exception] = []
    for number, (name, step) in enumerate(steps.items()):
        share = 1 / (len(steps) - number) if number else _OUTCOMES
        limit = (end - trio.current_time()) * share
        with trio.move_on_after(limit) as scope:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - raised after the other steps, whatever it is
                errors.append(error)
        if scope.cancelled_caught:
            errors.append(StorageUnavailable(f"{name}: timed out after {limit:.1f} s"))
    return _first(errors)


def _first(errors: Sequence[Exception]) -> StorageError | None:
    for error in errors:
        if not isinstance(error, StorageError):
            raise error
    return next((error for error in errors if isinstance(error, StorageError)), None)
