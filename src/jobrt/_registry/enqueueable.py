"""Types from which a type checker infers the result of a job that is enqueued.

The result type of a job is the return type of its ``run``. `Job.__jobrt_result__` and
`JobWithOptions.__jobrt_result__` have that type, and `Enqueueable` passes it to ``Client.enqueue`` and to the handle.
At run time only the names exist. ``design/decisions/007-typed-handles.md`` compares the alternatives.

Every function that enqueues has two signatures::

    @overload
    async def enqueue(self, job: Enqueueable[JsonT], ...) -> Handle[JsonT]: ...
    @overload
    async def enqueue(self, job: Enqueueable[ResultT | Verdict], ...) -> Handle[ResultT]: ...

The second removes the verdicts: for ``str | Snooze`` the result is a ``str``. It would be enough, but mypy solves
``ResultT | Verdict`` with a common base class, which for ``str | int`` is ``object``. So jobs without a verdict match
the first, which excludes verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, get_args

from jobrt._core.results import After, Cancel, Discard, Snooze, Throttle

Verdict: TypeAlias = After | Cancel | Discard | Snooze | Throttle
"""Value that `run` returns instead of a result, if the job is not completed."""
VERDICTS: Final[tuple[type[Any], ...]] = get_args(Verdict)
"""The types of all verdicts."""

ResultT = TypeVar("ResultT")
"""Return type of `run` without verdicts."""

ResultT_co = TypeVar("ResultT_co", covariant=True)

JsonT = TypeVar("JsonT", bound="str | float | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None")
"""Return type of a `run` that returns no verdict. To type checkers, a bool and an int are floats."""


class Runs(Protocol[ResultT_co]):
    """Object with a ``run(ctx)``; for ``async def`` the result is a coroutine."""

    def run(self, ctx: Any, /) -> ResultT_co:
        """Do the job."""
        ...


class Enqueueable(Protocol[ResultT_co]):
    """Job value or `JobWithOptions`, with the return type of the job's `run`."""

    def __jobrt_result__(self) -> ResultT_co:
        """Declare the type for type checkers; never called."""
        ...


class AnyJob:
    """Common base class of `Job` and `JobWithOptions`: the item type that mypy infers for a list of both."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __jobrt_result__(self) -> Any: ...
