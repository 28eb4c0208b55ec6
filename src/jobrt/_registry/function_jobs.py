"""Job functions: the parameters after the first are the fields of a job class."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
)

import attrs

from jobrt._core.arguments import did_you_mean, refused
from jobrt._core.retry import Backoff, RetryPredicate
from jobrt._core.unique import Unique
from jobrt._payload.annotations import signature
from jobrt._payload.leaves import LEAVES
from jobrt._registry.definition import Job
from jobrt._registry.settings import RunIn, Timeout
from jobrt._registry.versions import Upgrade
from jobrt.errors import InvalidJob

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class JobKeywords(TypedDict, total=False):
    """Keywords of ``@app.job(...)``: the constants of a job class, in lower case, and a function ``upgrade``."""

    name: str
    queue: str
    priority: int
    max_attempts: int | None
    max_concurrency: int | None
    timeout: Timeout
    backoff: Backoff | None
    retry: RetryPredicate | None
    unique: Unique | None
    run_in: RunIn | None
    park: float
    aliases: Sequence[str]
    version: int
    removed: Sequence[str]
    upgrade: Upgrade


class JobDecorator(Protocol):
    """Type of the decorator that ``@app.job(...)`` returns."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> FunctionJob[P, R]:
        """Convert a function to a job."""
        ...


class FunctionCall(Job, Generic[R_co], abstract=True):
    """Job value of a function job: the arguments for the function."""

    if TYPE_CHECKING:

        def run(self, ctx: Any, /) -> R_co:
            """Call the function with the context and the job's fields."""
            ...


class FunctionJob(Generic[P, R_co]):
    """Function that is also a job: ``resize.new(path=…)`` returns the job value, ``resize(ctx, …)`` calls the function.

    ``job_class`` is its job class.
    """

    job_class: type[FunctionCall[R_co]]

    def __init__(
        self, function: Callable[Concatenate[Any, P], R_co], job_class: type[FunctionCall[R_co]]
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.job_class = job_class

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function directly."""
        return self._function(ctx, *args, **kwargs)

    def new(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R_co]:
        """Return the job value with these arguments."""
        return self.job_class(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job function {self.job_class.__name__}>"

    def __reduce__(self) -> str:
        """Pickle by name: a worker process imports the module."""
        return self.job_class.__qualname__.removesuffix(".job_class")


def make_function_job(
    function: Callable[Concatenate[Any, P], R], /, **options: Unpack[JobKeywords]
) -> FunctionJob[P, R]:
    """Convert a function to a job.

    Raises:
        InvalidJob: a parameter cannot be a field, or an option is unknown or invalid.

    """
    if not inspect.isfunction(function):
        raise InvalidJob(
            f"{function!r} is not a function: use @app.job for functions, and App(jobs=[…]) for job classes"
        )
    if not function.__name__.isidentifier():
        raise InvalidJob(f"{function!r} has no name to store with its jobs: write it as def name(ctx, …)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(
            f"{function.__name__} is a generator, which a call does not run: use return and not yield"
        )
    return FunctionJob(function, _job_class(function, options))


def _job_class(function: types.FunctionType, options: JobKeywords) -> type[FunctionCall[Any]]:
    fields = _fields(function)
    namespace: dict[str, Any] = {
        **_constants(function, options),
        **{name: field for name, (_, field) in fields.items()},
        "__annotations__": {name: annotation for name, (annotation, _) in fields.items()},
        "__module__": function.__module__,
        "__qualname__": f"{function.__qualname__}.job_class",
        "__doc__": function.__doc__,
        "__repr__": _repr,
        "run": _run(function),
    }
    made = types.new_class(function.__name__, (FunctionCall,), {}, lambda body: body.update(namespace))
    return cast("type[FunctionCall[Any]]", made)


def _constants(function: types.FunctionType, options: JobKeywords) -> dict[str, Any]:
    for name in options:
        if name not in JobKeywords.__annotations__:
            hint = did_you_mean(name, JobKeywords.__annotations__)
            raise InvalidJob(f"{function.__name__}: option {name} is unknown: {hint}")
    constants: dict[str, Any] = {name.upper(): value for name, value in options.items()}
    if "UPGRADE" in constants:
        constants["upgrade"] = _upgrade(function.__name__, constants.pop("UPGRADE"))
    return constants


def _upgrade(name: str, given: Upgrade) -> Any:
    """Return the class method that calls the function `given`."""
    if not callable(given):
        raise refused(
            f"{name}: option upgrade", given, use="a function of args and version", error=InvalidJob
        )

    def upgrade(_cls: type, args: dict[str, Any], version: int) -> dict[str, Any]:
        return given(args, version)

    return classmethod(upgrade)


def _run(function: types.FunctionType) -> Callable[[Any, Any], Any]:
    """Return the method that calls the function with the job's fields."""

    async def run_async(self: Any, ctx: Any) -> Any:
        return await function(ctx, **vars(self))

    def run(self: Any, ctx: Any) -> Any:
        return function(ctx, **vars(self))

    chosen = run_async if inspect.iscoroutinefunction(function) else run
    # A worker process finds the method by this name.
    chosen.__module__, chosen.__name__ = function.__module__, "run"
    chosen.__qualname__ = f"{function.__qualname__}.job_class.run"
    return chosen


def _repr(job: object) -> str:
    fields = ", ".join(f"{name}={value!r}" for name, value in vars(job).items())
    return f"{type(job).__name__}({fields})"


def _fields(function: types.FunctionType) -> dict[str, tuple[Any, Any]]:
    """Return the annotation and the attrs field of each parameter after the first."""
    name = function.__name__
    parameters = list(signature(function).parameters.values())
    if not parameters or parameters[0].kind not in _CONTEXT_KINDS or parameters[0].annotation in _NO_CONTEXT:
        raise InvalidJob(
            f"{name}{signature(function)}: the first parameter must be the context: {name}(ctx, …)"
        )
    return {
        parameter.name: (parameter.annotation, _field(f"{name}.{parameter.name}", parameter))
        for parameter in parameters[1:]
    }


_CONTEXT_KINDS: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NO_CONTEXT: Final = frozenset(
    name for leaf in LEAVES if leaf not in (Any, None) for name in (leaf, leaf.__name__)
)


def _field(label: str, parameter: inspect.Parameter) -> Any:
    if parameter.kind not in {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
        raise InvalidJob(f"{label} is {parameter.kind.description}: use a named parameter for each field")
    if parameter.annotation is inspect.Parameter.empty:
        raise InvalidJob(
            f"{label} needs an annotation, because it is stored: for example {parameter.name}: str"
        )
    default = attrs.NOTHING if parameter.default is inspect.Parameter.empty else parameter.default
    if type(default).__hash__ is None:
        raise InvalidJob(f"{label}: the default {default!r} would be shared by all jobs; use None or a tuple")
    return attrs.field(default=default, kw_only=parameter.kind is inspect.Parameter.KEYWORD_ONLY)
