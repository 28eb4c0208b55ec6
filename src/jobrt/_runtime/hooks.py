"""Hooks around attempts: functions of the program in which the job's `run` is nested (``App.around_attempt``)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio

from jobrt._core.hooks import checked_hook, hook_name
from jobrt._core.interrupt import from_signal
from jobrt._core.text import Described, in_one_line
from jobrt._registry import VERDICTS, JobDefinition
from jobrt._runtime.context import Context
from jobrt.errors import HookFailed

if TYPE_CHECKING:
    Runner = Callable[[JobDefinition, Any, Context], Awaitable[Any]]

AttemptHook: TypeAlias = "Callable[[Context, Callable[[], Awaitable[Any]]], Awaitable[Any]]"
"""Async function ``hook(ctx, run)``: it awaits ``run()`` at most once, and returns what the attempt returns."""


class NotBegun(HookFailed):
    """Raised when the hooks of an attempt ended without running the job: ``hook`` is the one that did not call on."""

    def __init__(self, hook: str, problem: str, *, ctx: Context) -> None:
        super().__init__(f"hook {hook} {problem}")
        self.hook = hook
        self.problem = problem
        self.ctx = ctx


def checked_attempt_hook(hook: AttemptHook) -> AttemptHook:
    """Return a hook; raise `InvalidSetting` if it is no async function with two parameters."""
    checked: AttemptHook = checked_hook(
        "around_attempt", hook, example="async def hook(ctx, run): return await run()"
    )
    return checked


def hooked(runner: Runner, hooks: Sequence[AttemptHook]) -> Runner:
    """Return a runner that runs a job inside the hooks, the first outermost; without hooks, `runner` itself."""
    if not hooks:
        return runner
    own = tuple(hooks)

    async def run(definition: JobDefinition, job: Any, ctx: Context) -> Any:
        return await _Nested(own, lambda: runner(definition, job, ctx), ctx).run()

    return run


@attrs.define(eq=False)
class _Nested:
    """Nested calls of one attempt: each hook in the one before it, and the job in the last."""

    hooks: tuple[AttemptHook, ...]
    job: Callable[[], Awaitable[Any]]
    ctx: Context
    began: bool = False
    """The job has begun: from then on, it is its attempt that ends."""
    blamed: NotBegun | None = None
    """About the hook that ended without calling on: the innermost, which is the first."""
    described: Described | None = None

    async def run(self) -> Any:
        try:
            returned = await self._call(0)
        except BaseException as error:
            if self.began:
                if self.described is not None and error is self.described.original:
                    raise self.described from None  # what another process has told of it is recorded
                raise
            if self.blamed is None or _is_no_failure(error):
                raise
            raise self.blamed from self.blamed.__cause__
        if not self.began and not isinstance(returned, VERDICTS) and self.blamed is not None:
            # A verdict is a decision about the job, and cannot be a mistake.
            raise self.blamed from self.blamed.__cause__
        return returned

    def _blame(self, hook: AttemptHook, error: BaseException | None) -> None:
        if self.blamed is not None:
            return
        match error:
            case None:
                problem = "returned without calling run: end it with `return await run()`, or return a Snooze"
            case trio.Cancelled():
                problem = "was cancelled before the job began, by a hook around it"
            case _:
                problem = f"failed before the job began: {in_one_line(error)}"
        self.blamed = NotBegun(hook_name(hook), problem, ctx=self.ctx)
        self.blamed.__cause__ = error

    async def _call(self, index: int) -> Any:
        if index == len(self.hooks):
            return await self._run_job()
        hook = self.hooks[index]
        called = False

        async def run() -> Any:
            nonlocal called
            if called:
                raise HookFailed(f"hook {hook_name(hook)} called run twice: a job runs once in an attempt")
            called = True
            return await self._call(index + 1)

        try:
            returned = await hook(self.ctx, run)
        except BaseException as error:
            if not called:
                self._blame(hook, error)
            raise
        if not called:
            self._blame(hook, None)
        return returned

    async def _run_job(self) -> Any:
        self.began = True
        try:
            return await self.job()
        except Described as error:
            if error.original is None:
                raise
            self.described = error
            raise error.original from None  # hooks see what the job raised


def _is_no_failure(error: BaseException) -> bool:
    """Return whether an error ended the hooks for a reason of its own: a cancellation, an interrupt, the exit."""
    if isinstance(error, GeneratorExit) or from_signal(error):
        return True
    return trio.current_effective_deadline() == -math.inf
