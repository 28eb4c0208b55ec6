"""Hooks around enqueues: functions of the program in which the insert is nested (``App.around_enqueue``)."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import attrs

from jobrt._client.handle import Handle
from jobrt._core.arguments import shown
from jobrt._core.hooks import checked_hook, hook_name
from jobrt._registry import Enqueueable, JobWithOptions, with_options
from jobrt.errors import HookFailed, InvalidJob

Jobs: TypeAlias = Sequence[JobWithOptions[Any]]
Handles: TypeAlias = Sequence[Handle[Any]]
Insert: TypeAlias = Callable[[Jobs], Awaitable[Handles]]
EnqueueHook: TypeAlias = Callable[[Jobs, Callable[[Sequence[Any]], Awaitable[Handles]]], Awaitable[Handles]]
"""Async function ``hook(jobs, enqueue)``: it awaits ``enqueue(jobs)`` once, and returns what that returns."""

BlockingHook: TypeAlias = Callable[[Jobs, Callable[[Jobs], Sequence[Any]]], Sequence[Any]]
"""The same as a plain function, around enqueues of programs without an event loop. `jobrt.otel` has the only one."""


def checked_enqueue_hook(hook: EnqueueHook) -> EnqueueHook:
    """Return a hook; raise `InvalidSetting` if it is no async function with two parameters."""
    checked: EnqueueHook = checked_hook(
        "around_enqueue", hook, example="async def hook(jobs, enqueue): return await enqueue(jobs)"
    )
    return checked


async def around_enqueue(hooks: Sequence[EnqueueHook], jobs: Jobs, insert: Insert) -> list[Handle[Any]]:
    """Insert jobs inside the hooks, the first outermost, and return the handles in the order of the jobs.

    Raises:
        HookFailed: a hook did not call on, called on twice, or changed the number or order of jobs or handles.
        Exception: what a hook or `insert` raised.

    """
    return list(await _Nested(tuple(hooks), insert).call(0, tuple(jobs)))


@attrs.frozen
class _Nested:
    """Nested calls of one enqueue: each hook in the one before it, and the insert in the last."""

    hooks: tuple[EnqueueHook, ...]
    insert: Insert

    async def call(self, index: int, jobs: Jobs) -> Handles:
        if index == len(self.hooks):
            return await self.insert(jobs)
        hook = self.hooks[index]
        name, called, stored = hook_name(hook), False, list[Handles]()

        async def enqueue(given: Sequence[Any]) -> Handles:
            nonlocal called
            if called:
                raise HookFailed(f"hook {name} called enqueue twice: call it once, with all jobs")
            called = True
            stored.append(await self.call(index + 1, _checked(name, jobs, given)))
            return stored[0]

        returned: object = await hook(jobs, enqueue)
        if not stored:
            done = "ended without what enqueue raised" if called else "returned without calling enqueue"
            raise HookFailed(
                f"hook {name} {done}, so nothing is stored: end it with `return await enqueue(jobs)`"
            )
        if returned is not stored[0]:
            _check_handles(name, returned, stored[0])
        return stored[0]


def _checked(name: str, jobs: Jobs, given: object) -> Jobs:
    """Return the jobs that a hook passes on; each must be of the class that the job at its place had."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise HookFailed(f"hook {name} called enqueue with {shown(given)}: call it with a list of jobs")
    try:
        passed = [with_options(job) for job in cast("Iterable[Enqueueable[Any]]", given)]
    except InvalidJob as error:
        raise HookFailed(f"hook {name} called enqueue with a list in which {error}") from error
    if len(passed) != len(jobs):
        raise HookFailed(
            f"hook {name} passed on {len(passed)} of {len(jobs)} jobs: keep their number and order"
        )
    for place, (old, new) in enumerate(zip(jobs, passed, strict=True)):
        if type(old.job) is not type(new.job):
            names = f"{new.name}, where {old.name} was"
            raise HookFailed(
                f"hook {name} passed on {names} (job {place}): keep the number and order of jobs"
            )
    return passed


def _check_handles(name: str, returned: object, stored: Handles) -> None:
    handles = list(returned) if isinstance(returned, Iterable) else []
    if [getattr(handle, "id", None) for handle in handles] == [handle.id for handle in stored]:
        return
    ids = ", ".join(str(handle.id) for handle in stored[:3]) + (", …" if len(stored) > 3 else "")  # noqa: PLR2004 - enough to find them
    found = (
        f"returned {len(handles)} handles"
        if isinstance(returned, Iterable)
        else f"returned {shown(returned)}"
    )
    raise HookFailed(
        f"hook {name} {found} for {len(stored)} jobs: return what enqueue returns. The jobs are stored (id {ids}),"
        " unless this was in a transaction that is rolled back"
    )
