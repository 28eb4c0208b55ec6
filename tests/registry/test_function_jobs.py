# ruff: noqa: S301 - pickles are our own
"""Functions as jobs: the parameters after the context are the fields."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest
import tenacity

from jobrt._core.unique import Unique
from jobrt._registry import FunctionJob, Job, definition_of, make_function_job
from jobrt.errors import InvalidJob
from tests.registry.making import make_job

if TYPE_CHECKING:
    from nowhere import Nothing


def make(function: Callable[..., Any], **options: Any) -> FunctionJob[..., Any]:
    """Make a job function, past the type checkers."""
    loose: Any = make_function_job
    made: FunctionJob[..., Any] = loose(function, **options)
    return made


async def _resize(ctx: Nothing, path: str, width: int = 800, *, day: date | None = None) -> str:
    """Make a picture smaller."""
    return f"{ctx} {path} {width} {day}"


def _count(ctx: object, text: str) -> int:
    return len(text.split())


resize = make_function_job(_resize, name="resize")
_resize.__name__ = _resize.__qualname__ = "resize"


def plain(ctx: object, a: int, b: int = 2) -> tuple[object, int, int]:
    """Return the arguments."""
    return ctx, a, b


plain_function = plain
plain = make_function_job(plain)  # type: ignore[assignment]  # what the decorator does


# ------------------------------------------------------------------------------------------------ what it is


def test_a_job_function_is_still_a_function() -> None:
    """Calling it is a plain call, and it looks like the function."""
    job = make(plain_function)
    assert job("ctx", 1) == ("ctx", 1, 2)
    assert job("ctx", a=1, b=3) == ("ctx", 1, 3)
    assert (job.__name__, job.__doc__, job.__wrapped__) == ("plain", "Return the arguments.", plain_function)
    assert repr(job) == "<job function plain>"
    assert inspect.signature(job) == inspect.signature(plain_function)


def test_new_makes_the_job_value() -> None:
    """`new` takes the arguments after the context and makes a value like any other."""
    job = make(plain_function)
    value = job.new(1, b=3)
    assert value == job.new(a=1, b=3)
    assert isinstance(value, job.job_class)
    assert issubclass(job.job_class, Job)
    assert repr(value) == "plain(a=1, b=3)"
    assert definition_of(value).encode(value) == '{"a":1,"b":3}'
    assert definition_of(value).decode('{"a":1}') == job.new(1)


async def test_the_definition_runs_the_function() -> None:
    """Running the job calls the function with the context and the fields."""
    sync = definition_of(plain.job_class)  # type: ignore[attr-defined]
    assert sync.run(plain.new(1), "ctx") == ("ctx", 1, 2)  # type: ignore[attr-defined]
    value = resize.new("cat.png", day=date(2026, 1, 1))
    assert await definition_of(value).run(value, "ctx") == "ctx cat.png 800 2026-01-01"
    assert (sync.run_in, definition_of(value).run_in) == ("thread", "trio")


def test_options_are_the_constants() -> None:
    """The keywords mean what the constants of a class mean, with the same defaults."""
    wait, retry, unique = tenacity.wait_fixed(3), tenacity.retry_if_exception_type(OSError), Unique()
    job = make(
        plain_function,
        name="other",
        queue="slow",
        priority=3,
        max_attempts=None,
        max_concurrency=2,
        timeout=timedelta(minutes=1),
        backoff=wait,
        retry=retry,
        unique=unique,
        run_in="thread",
        park=3,
        aliases=["older"],
        version=2,
        removed=("gone",),
        upgrade=lambda args, version: {**args, "a": version},
    )
    definition = definition_of(job.job_class)
    assert definition.read("{}", None) == job.job_class(1)
    left_out = ("payload", "encode", "decode", "job_class", "run", "shape")
    assert attrs.asdict(
        definition_of(job.job_class), recurse=False, filter=attrs.filters.exclude(*left_out)
    ) == {
        "name": "other",
        "queue": "slow",
        "priority": 3,
        "max_attempts": None,
        "max_concurrency": 2,
        "timeout": 60.0,
        "backoff": wait,
        "retry": retry,
        "unique": unique,
        "run_in": "thread",
        "park": 3.0,
        "versions": attrs.evolve(
            definition.versions, aliases=("older",), version=2, removed=frozenset({"gone"})
        ),
    }
    plain_one = definition_of(make(plain_function).job_class)
    assert (plain_one.name, plain_one.queue, plain_one.max_attempts) == ("plain", "default", 5)


def test_job_functions_pickle_by_name() -> None:
    """A worker process gets the job value and what to run by name, through the decorated function."""
    value = plain.new(1)  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert pickle.loads(pickle.dumps(value)) == value
    assert pickle.loads(pickle.dumps(definition_of(value).run)) is definition_of(value).run


def test_annotations_may_be_local() -> None:
    """Names of the functions around a job function are found, although its annotations are strings."""
    mode = Literal["fast", "slow"]

    def run(ctx: object, how: mode = "fast") -> None: ...  # type: ignore[valid-type]

    job = make(run)
    with pytest.raises(InvalidJob, match=r"run\.how: expected Literal\['fast', 'slow'\], got str 'x'"):
        definition_of(job.job_class).encode(job.new("x"))


# --------------------------------------------------------------------------------------------------- refusals


def _no_annotation(ctx, path): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202


def _var_args(ctx: object, *paths: str) -> None: ...


def _var_keywords(ctx: object, **paths: str) -> None: ...


def _positional(ctx: object, path: str, /) -> None: ...


def _mutable(ctx: object, paths: list[str] = []) -> None: ...  # noqa: B006 - that is the case under test


def _nothing() -> None: ...


def _no_context(path: str) -> None: ...


def _keyword_context(*, ctx: object) -> None: ...


def _reserved(ctx: object, run: str) -> None: ...


def _unstorable(ctx: object, where: object) -> None: ...


def _generator(ctx: object) -> Any:
    yield


async def _async_generator(ctx: object) -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_no_annotation, "_no_annotation.path needs an annotation, because it is stored"),
        (_var_args, "_var_args.paths is variadic positional: use a named parameter"),
        (_var_keywords, "_var_keywords.paths is variadic keyword"),
        (_positional, "_positional.path is positional-only"),
        (_mutable, "_mutable.paths: the default [] would be shared by all jobs; use None or a tuple"),
        (_nothing, "_nothing() -> 'None': the first parameter must be the context: _nothing(ctx, …)"),
        (_no_context, "the first parameter must be the context: _no_context(ctx, …)"),
        (_keyword_context, "the first parameter must be the context"),
        (_reserved, "_reserved.run: a field name must not"),
        (_unstorable, "_unstorable.where: object cannot be stored in a payload; use typing.Any"),
        (lambda ctx: None, "has no name to store with its jobs: write it as def name(ctx, …)"),
        (_generator, "_generator is a generator, which a call does not run"),
        (_async_generator, "_async_generator is a generator"),
        (make_job(), "is not a function: use @app.job for functions, and App(jobs=[…]) for job classes"),
        (make(plain_function), "is not a function"),
        (len, "is not a function"),
    ],
)
def test_functions_that_cannot_be_jobs_are_refused(function: Any, message: str) -> None:
    """A function that cannot be a job is an error at the decorator; it names the parameter and the remedy."""
    with pytest.raises(InvalidJob) as caught:
        make(function)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": "x"}, "plain: option queues is unknown: did you mean queue?"),
        ({"max_attempts": 0}, "plain.MAX_ATTEMPTS is 0"),
        ({"run_in": "trio"}, "plain.RUN_IN is 'trio', but run is def"),
        ({"name": ""}, "plain.NAME is ''"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """A wrong option is an error at the decorator."""
    with pytest.raises(InvalidJob) as caught:
        make(plain_function, **options)
    assert message in str(caught.value)
