"""Which functions can be a hook, and what becomes of a job that one has held up."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt import AttemptRecord, End, InvalidSetting
from jobrt._core.attempts import Ended
from jobrt._core.hooks import NOT_BEGUN, checked_hook, hook_name, not_begun
from jobrt._core.job import Claimed
from jobrt._core.states import Transition

NOW = datetime(2030, 1, 1, tzinfo=UTC)


async def good(_first: Any, _second: Any) -> None:
    """Be a hook."""


class Called:
    """Object that is a hook."""

    async def __call__(self, first: Any, second: Any) -> None: ...


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (good, "good"),
        (Called(), "Called"),
        (functools.partial(good, _second=1), "good"),
        (Called().__call__, "Called.__call__"),
    ],
)
def test_async_functions_are_hooks(hook: Any, name: str) -> None:
    """Objects with an async `__call__`, methods and partial functions are hooks too, and have a name."""
    two = functools.partial(good) if isinstance(hook, functools.partial) else hook
    assert checked_hook("around_attempt", two, example="…") is two
    assert hook_name(hook) == f"{__name__}.{name}"


def plain(_first: Any, _second: Any) -> None:
    """Be no hook."""


async def short(_only: Any) -> None:
    """Be no hook either."""


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        (plain, f"{__name__}.plain is not async"),
        (short, f"{__name__}.short does not take two arguments"),
        (7, "7 is not a function"),
        (None, "None is not a function"),
    ],
)
def test_others_are_refused(hook: Any, problem: str) -> None:
    """The message names the function, what is wrong, and how a hook is written."""
    with pytest.raises(InvalidSetting, match=rf"^around_attempt: {problem}: use async def hook\(a, b\)$"):
        checked_hook("around_attempt", hook, example="async def hook(a, b)")


def claimed(*attempts: AttemptRecord) -> Claimed:
    """Return a claimed job, at its third attempt."""
    return Claimed(1, 7, "a", "q", 0, 3, 5, None, "{}", "{}", (), None, NOW, NOW, NOW, attempts=attempts)


def record(ago: float, **changes: Any) -> AttemptRecord:
    """Return the record of a try that a hook has ended."""
    at = NOW - timedelta(seconds=ago)
    fields: dict[str, Any] = {
        "number": 3, "end": End.INTERRUPTED, "started_at": at, "finished_at": at, "worker": "w",
        "error_type": NOT_BEGUN, "message": "", "traceback": None,
    }  # fmt: skip
    return AttemptRecord(**fields | changes)


def test_the_first_try_leaves_a_record() -> None:
    """It has the error, and the job waits a second."""
    outcome = not_begun(claimed(), Ended(End.FAILED, "ValueError", "no tenant", "trace"), now=NOW)
    assert outcome.event is Transition.SNOOZE
    assert (outcome.end, outcome.error_type, outcome.message) == (End.INTERRUPTED, NOT_BEGUN, "no tenant")
    assert (outcome.delay, outcome.spent) == (1.0, False)


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_later_tries_leave_none(first: float, second: float) -> None:
    """However long a hook fails, there is one record, no attempt is used, and the delays grow to a minute."""
    delays: list[float] = []
    for ago in sorted((first, second)):
        outcome = not_begun(claimed(record(ago), record(ago / 2)), Ended(End.FAILED, message="x"), now=NOW)
        assert (outcome.end, outcome.message, outcome.spent) == (None, None, False)
        delays.append(outcome.delay)
    assert 1.0 <= delays[0] <= delays[1] <= 60.0


@pytest.mark.parametrize("change", [{"number": 2}, {"end": End.FAILED}, {"error_type": None}])
def test_records_of_other_ends_do_not_count(change: dict[str, Any]) -> None:
    """An interruption by a stop, or a failure of an earlier attempt, makes no delay longer."""
    outcome = not_begun(claimed(record(3600, **change)), Ended(End.FAILED, message="x"), now=NOW)
    assert (outcome.end, outcome.delay) == (End.INTERRUPTED, 1.0)


def test_a_name_is_found_for_anything_callable() -> None:
    """Builtin functions have one too."""
    hook: Callable[..., Any] = print
    assert hook_name(hook) == "builtins.print"
