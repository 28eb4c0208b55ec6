"""Decorators of an app for hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from jobrt._client.hooks import BlockingHook, EnqueueHook, checked_enqueue_hook
from jobrt._core.arguments import refused
from jobrt._runtime.hooks import AttemptHook, checked_attempt_hook
from jobrt.errors import InvalidSetting

if TYPE_CHECKING:
    AttemptHookT = TypeVar("AttemptHookT", bound=AttemptHook)
    EnqueueHookT = TypeVar("EnqueueHookT", bound=EnqueueHook)


class Hookable:
    """Base class of `App`: its hooks around attempts and enqueues."""

    _blocking_hook: BlockingHook | None = None
    """Hook around what threads enqueue for this app: Django's backend does."""

    def __init__(
        self, around_attempt: Iterable[AttemptHook] = (), around_enqueue: Iterable[EnqueueHook] = ()
    ) -> None:
        attempt, enqueue = (
            _listed("around_attempt", around_attempt),
            _listed("around_enqueue", around_enqueue),
        )
        self._attempt_hooks = [checked_attempt_hook(hook) for hook in attempt]
        self._enqueue_hooks = [checked_enqueue_hook(hook) for hook in enqueue]

    def around_attempt(self, hook: AttemptHookT, /) -> AttemptHookT:
        """Decorate ``async def hook(ctx, run)`` as a hook around the attempts of all jobs, in their scope and task.

        It awaits ``run()`` at most once, which runs the job or the next hook, and returns what that returns. The first
        hook is the outermost. A worker uses the hooks that there are when it starts. If a hook fails before it calls
        ``run``, the job is given back: no attempt is used, and `JobNotBegun` is emitted. Instead of calling ``run`` it
        may return a `Snooze`, `Cancel` or `Discard`.

        Raises:
            InvalidSetting: it is no async function with two parameters.

        """
        self._attempt_hooks.append(checked_attempt_hook(hook))
        return hook

    def around_enqueue(self, hook: EnqueueHookT, /) -> EnqueueHookT:
        """Decorate ``async def hook(jobs, enqueue)`` as a hook around enqueues of clients, jobs and cron entries.

        ``jobs`` is a sequence of `JobWithOptions`. The hook awaits ``enqueue(...)`` once, with as many jobs in the same
        order, and returns what that returns. The first hook is the outermost. For a tick that another worker has fired,
        ``enqueue`` returns a handle with ``duplicate`` true and the id 0.

        Raises:
            InvalidSetting: it is no async function with two parameters.

        """
        self._enqueue_hooks.append(checked_enqueue_hook(hook))
        return hook

    @property
    def attempt_hooks(self) -> tuple[AttemptHook, ...]:
        """The hooks around attempts, the outermost first."""
        return tuple(self._attempt_hooks)


def _listed(name: str, hooks: Any) -> Iterable[Any]:
    if not isinstance(hooks, Iterable) or isinstance(hooks, str | bytes):
        raise refused(f"App: {name}", hooks, use="a list of async functions", error=InvalidSetting)
    return hooks
