"""Tasks of Django for the tests."""

from typing import Any

from django.tasks import TaskContext, task

CALLS: list[Any] = []
"""What the tasks were called with, in order."""


class Refused(Exception):
    """Exception with a module of its own."""


@task
def add(a: int, b: int = 1) -> int:
    """Return the sum."""
    CALLS.append((a, b))
    return a + b


@task
async def double(a: int) -> dict[str, int]:
    """Return twice the number, from a coroutine."""
    return {"twice": 2 * a}


@task(takes_context=True)
def context(context: TaskContext, a: int) -> list[Any]:
    """Return what the context says."""
    result = context.task_result
    return [result.id, context.attempt, a, str(result.status), len(result.worker_ids)]


@task
def fail(times: int) -> int:
    """Raise so many times in this process, then return."""
    CALLS.append(times)
    if len(CALLS) <= times:
        raise Refused("several\nlines")
    return len(CALLS)


@task
def leave() -> None:
    """End the process, as it believes."""
    raise SystemExit("enough")


@task
def odd() -> Any:
    """Return a value that is not JSON."""
    return object()


def _hidden() -> None: ...


nowhere = task(_hidden)
"""A task that cannot be imported by the path of its function."""
