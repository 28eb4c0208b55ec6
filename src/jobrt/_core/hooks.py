"""Decisions about hooks: which functions can be one, and what becomes of a job that a hook has kept from running.

Such a job is given back: no attempt is used. It runs again after a growing delay of at most a minute. Only the first
try leaves a record, from which the delays are counted, so an outage of a hook does not fill the database.
"""

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from jobrt._core.arguments import shown
from jobrt._core.attempts import Ended
from jobrt._core.job import Claimed, Outcome
from jobrt._core.states import End, Transition
from jobrt.errors import InvalidSetting

NOT_BEGUN: Final = "HookFailed"
"""Error type in the record of an attempt whose job did not begin because of a hook."""
_SHORTEST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds until the next try. Each delay is as long as the time since the first try, so it doubles."""


def hook_name(hook: Callable[..., Any]) -> str:
    """Return the name of a hook for messages: ``shop.hooks.timed``."""
    function: Any = getattr(hook, "func", hook)  # of a partial
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def checked_hook(label: str, hook: Any, *, example: str) -> Any:
    """Return a hook; raise `InvalidSetting` if it is no async function with two parameters, as `example` has them."""
    if not callable(hook):
        raise InvalidSetting(f"{label}: {shown(hook)} is not a function: use {example}")
    if not _is_async(hook):
        raise InvalidSetting(f"{label}: {hook_name(hook)} is not async: use {example}")
    try:
        inspect.signature(hook).bind(None, None)
    except TypeError:
        raise InvalidSetting(
            f"{label}: {hook_name(hook)} does not take two arguments: use {example}"
        ) from None
    return hook


def _is_async(hook: Any) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004 - its kind is asked for


def not_begun(job: Claimed, ended: Ended, *, now: datetime) -> Outcome:
    """Return the outcome of an attempt whose job a hook has kept from beginning; `now` is by the database's clock."""
    tries = [
        record.finished_at
        for record in job.attempts
        if (record.number, record.end, record.error_type) == (job.attempt, End.INTERRUPTED, NOT_BEGUN)
    ]
    waited = (now - tries[0]).total_seconds() if tries else 0.0
    delay = min(max(waited, _SHORTEST), _LONGEST)
    outcome = Outcome(job.id, job.lease, Transition.SNOOZE, None, delay, spent=False)
    if tries:
        return outcome
    return outcome._replace(
        end=End.INTERRUPTED, error_type=NOT_BEGUN, message=ended.message, traceback=ended.traceback
    )
