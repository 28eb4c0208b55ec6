"""Types of what can be enqueued, from which a type checker learns what the job's `run` returns.

A job's result type is written once, at ``run``. `Job.__jobrt_result__` and `JobWithOptions.__jobrt_result__` take it
from there, and `Enqueueable` hands it on: to ``Client.enqueue``, and so to the handle. Nothing of this exists at run
time but the names. ``design/decisions/007-typed-handles.md`` compares the alternatives.

Whatever enqueues has two signatures::

    @overload
    async def enqueue(self, job: Enqueueable[JsonT], ...) -> Handle[JsonT]: ...
    @overload
    async def enqueue(self, job: Enqueueable[ResultT | Verdict], ...) -> Handle[ResultT]: ...

The second leaves the verdicts out: for ``str | Snooze`` the result is a ``str``. It would do alone, but mypy solves
``ResultT | Verdict`` by a common base class: for ``str | int`` that is ``object``. So jobs without a verdict take the
first, which no verdict fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from jobrt._core.results import After, Cancel, Discard, Snooze

Verdict: TypeAlias = After | Cancel | Discard | Snooze
"""What `run` returns when the job is not to be completed: no result."""

ResultT = TypeVar("ResultT")
"""What a job's `run` returns, verdicts left out."""

ResultT_co = TypeVar("ResultT_co", covariant=True)

JsonT = TypeVar("JsonT", bound="str | float | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None")
"""What a job's `run` returns that returns no verdict; a bool and an int are floats to type checkers."""


class Runs(Protocol[ResultT_co]):
    """Anything with a ``run(ctx)``; for ``async def`` the result is a coroutine."""

    def run(self, ctx: Any, /) -> ResultT_co:
        """Do the job."""
        ...


class Enqueueable(Protocol[ResultT_co]):
    """A job value or a `JobWithOptions`, by the type that the job's `run` returns."""

    def __jobrt_result__(self) -> ResultT_co:
        """Name the type for type checkers; nobody calls it."""
        ...


class AnyJob:
    """Common base of `Job` and `JobWithOptions`: the type that mypy finds for a list of both. Their results are Any."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __jobrt_result__(self) -> Any: ...
