"""Take leave of the storage: try every step, whatever became of those before, in a time that is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from jobrt.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


_OUTCOMES = 0.75
"""Of the time: what the first step, the outcomes, may take. One that is not written makes its job run again."""
_RESERVE = 0.9
"""Of the time that whoever waits for this has set: else they would hear nothing at all."""


async def sign_off(
    steps: Mapping[str, Callable[[], Awaitable[Any]]], *, seconds: float
) -> StorageError | None:
    """Take all steps, the outcomes first; return the first error of the storage, if there was one.

    A step that is quick leaves its time to those after it; one that gets no answer takes no more than its share.

    Raises:
        Exception: what went wrong that is not the storage's; all steps were tried before.

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
            except Exception as error:  # noqa: BLE001 - whatever it is, the other steps come first
                errors.append(error)
        if scope.cancelled_caught:
            errors.append(StorageUnavailable(f"{name}: not done within {limit:.1f} s"))
    return _first(errors)


def _first(errors: Sequence[Exception]) -> StorageError | None:
    for error in errors:
        if not isinstance(error, StorageError):
            raise error
    return next((error for error in errors if isinstance(error, StorageError)), None)
