"""Job classes and their definitions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, Unpack, dataclass_transform, overload

import attrs
from tenacity import RetryCallState
from tenacity.retry import retry_base
from tenacity.wait import wait_base

from jobrt._core.arguments import VERY_CLOSE, checked_duration, nearest
from jobrt._core.job import JobRecord
from jobrt._core.retry import Backoff, RetryPredicate, as_backoff, as_retry
from jobrt._core.unique import Unique
from jobrt._payload.annotations import Unresolved, enclosing_names, own_annotations, signature
from jobrt._payload.codecs import CodecError
from jobrt._payload.payload import Payload, payload_of
from jobrt._registry.enqueueable import AnyJob, ResultT, Runs, Verdict
from jobrt._registry.options import EnqueueKeywords, JobWithOptions, enqueue_options
from jobrt._registry.settings import (
    RunIn,
    Timeout,
    check_asyncio,
    checked_count,
    checked_name,
    checked_priority,
    checked_run_in,
    checked_timeout,
    checked_unique,
)
from jobrt._registry.versions import Versions, check_removed, checked_versions, read_stored, shape_of
from jobrt.errors import InvalidJob


@attrs.frozen(kw_only=True, eq=False)
class JobDefinition:
    """Definition of a job class: its checked constants, and how its values are stored and run.

    `Job` describes the constants. ``timeout`` is in seconds. ``run`` is called as ``run(job, ctx)``; it is a coroutine
    function for ``"trio"`` and ``"asyncio"``. ``encode`` and ``decode`` are those of the payload.
    """

    name: str
    queue: str
    priority: int
    max_attempts: int | None
    max_concurrency: int | None
    timeout: float | Callable[[JobRecord], float | timedelta | None] | None
    backoff: Backoff | None
    retry: RetryPredicate | None
    unique: Unique | None
    run_in: RunIn
    park: float
    versions: Versions
    job_class: type[Job]
    run: Callable[[Any, Any], Any]
    shape: int
    payload: Payload = attrs.field(repr=False)
    encode: Callable[[Any], str] = attrs.field(repr=False)
    decode: Callable[[str | Mapping[str, Any]], Any] = attrs.field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which its jobs may be stored."""
        return (self.name, *self.versions.aliases)

    @property
    def first_name(self) -> str:
        """The oldest name, by which jobs with different names are compared for uniqueness."""
        return self.versions.aliases[0] if self.versions.aliases else self.name

    def read(self, args: str | Mapping[str, Any], version: int | None) -> Any:
        """Return the job value of a stored payload; None is the first version.

        Raises:
            UndecodablePayload: it does not fit the class.

        """
        if self.versions.plain and version is None:
            return self.decode(args)
        return read_stored(args, version or 1, payload=self.payload, versions=self.versions)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
class Job(AnyJob):
    """Base class for jobs. The annotated fields of a subclass are the payload, and its method `run` does the work.

    A subclass becomes a frozen attrs class, in place. It defines ``run(self, ctx)``, as ``async def`` or ``def``.

    Class keywords:

    * ``abstract=True``: the class is only a base class for jobs. A class without `run` is abstract too.
    * ``kw_only=True``: the fields are keyword-only.

    Constants are optional. All except ``NAME`` and ``ALIASES`` are inherited:

    =================== =================================================================== ================
    Constant            Meaning                                                             Default
    =================== =================================================================== ================
    ``NAME``            name that is stored with each job                                   name of the class
    ``QUEUE``           name of the queue                                                   ``"default"``
    ``PRIORITY``        higher runs first                                                   0
    ``MAX_ATTEMPTS``    maximum number of attempts; None: no limit                          5
    ``MAX_CONCURRENCY`` concurrent attempts in a worker process; None: the queue's limit    None
    ``TIMEOUT``         time limit of an attempt: seconds, a timedelta, a function of the   None
                        job's record; None: no limit
    ``BACKOFF``         delay before the next attempt: a tenacity wait, a function of the   None
                        job's record; None: 2, 4, 8 … s, ±10 %, at most 7 days
    ``RETRY``           a tenacity predicate over the exception; None: every failure        None
    ``UNIQUE``          a `Unique`; None: equal jobs are different jobs                     None
    ``RUN_IN``          ``"trio"``, ``"thread"``, ``"process"`` or ``"asyncio"``; None:     None
                        ``"trio"`` for ``async def``, ``"thread"`` for ``def``
    ``PARK``            seconds that a waiting job stays in memory before it is suspended;  10
                        0: not at all
    ``ALIASES``         earlier names, the oldest first; their jobs are jobs of this class  ``()``
    ``VERSION``         version of the payload, stored with each job                        1
    ``REMOVED``         fields of old payloads that are ignored                             ``()``
    =================== =================================================================== ================

    With ``VERSION``, a class method ``upgrade(cls, args, version)`` gets an older payload, as a dict of JSON values,
    and its version. It returns the fields of today.

    A job in a process has the environment of the worker, without ``JOBRT_URL``: it may have a password.
    """

    NAME: ClassVar[str]
    QUEUE: ClassVar[str] = "default"
    PRIORITY: ClassVar[int] = 0
    MAX_ATTEMPTS: ClassVar[int | None] = 5
    MAX_CONCURRENCY: ClassVar[int | None] = None
    TIMEOUT: ClassVar[Timeout] = None
    # Not `Backoff | None`: in a nested union, mypy mistakes a function for a method.
    BACKOFF: ClassVar[wait_base | Callable[[JobRecord], timedelta | float] | None] = None
    RETRY: ClassVar[retry_base | Callable[[RetryCallState], bool] | None] = None
    UNIQUE: ClassVar[Unique | None] = None
    RUN_IN: ClassVar[RunIn | None] = None
    PARK: ClassVar[float] = 10.0
    ALIASES: ClassVar[Sequence[str]] = ()
    VERSION: ClassVar[int] = 1
    REMOVED: ClassVar[Sequence[str]] = ()

    __jobrt_definition__: ClassVar[JobDefinition | _Pending | None] = None

    def __init_subclass__(cls, *, abstract: bool = False, kw_only: bool = False, **others: Any) -> None:
        _check_keywords(cls.__name__, others)
        super().__init_subclass__(**others)
        _check_spelling(cls)
        _make_attrs(cls, kw_only=kw_only)
        if "NAME" not in vars(cls):
            cls.NAME = cls.__name__  # pyright: ignore[reportConstantRedefinition]  # its only value
        settings = _settings(cls)
        run = None if abstract else _runner(cls)
        if run is None:
            _make_abstract(cls)
            return
        local = enclosing_names(cls, inspect.currentframe())
        cls.__jobrt_definition__ = _Pending({**settings, **run}, local)
        with contextlib.suppress(
            _NotYet
        ):  # a name may be defined later in the module: the first use tries again
            definition_of(cls)

    if TYPE_CHECKING:  # at run time it would hide the `run` of a class that follows `Job` among the bases

        def run(self, ctx: Any, /) -> Any:
            """Do the job, as ``async def`` or ``def``; ``ctx`` is the `Context` of the attempt.

            Returns:
                The result, any JSON value of up to 256 KiB; or `Snooze`, `Throttle`, `Cancel`, `Discard` or `After`.

            """

        @overload
        def __jobrt_result__(self: Runs[Coroutine[Any, Any, Verdict] | Verdict]) -> Any: ...
        @overload
        def __jobrt_result__(self: Runs[Coroutine[Any, Any, ResultT]]) -> ResultT: ...
        @overload
        def __jobrt_result__(self: Runs[ResultT]) -> ResultT: ...
        def __jobrt_result__(self) -> Any: ...

    def with_options(self, **options: Unpack[EnqueueKeywords]) -> JobWithOptions[Self]:
        """Return this job with its own options: queue, priority, schedule, tags and so on; see `Client.enqueue`.

        Raises:
            InvalidJob: an option is unknown or invalid.

        """
        return JobWithOptions(self, enqueue_options(type(self).__name__, options))


# ---------------------------------------------------------------------------------------------- definitions


@attrs.frozen
class _Pending:
    """Definition whose annotations are not resolved yet.

    ``settings`` are the checked constants. ``local`` has the local names of the function that defines the class.
    """

    settings: dict[str, Any]
    local: dict[str, Any]


class _NotYet(InvalidJob):
    """Raised when an annotation has an undefined name, which may be defined after the class."""


def definition_of(job: type[Job] | Job) -> JobDefinition:
    """Return the definition of a job class, or of the class of a job value.

    Raises:
        InvalidJob: the class is abstract, or an annotation cannot be resolved.

    """
    cls = job if isinstance(job, type) else type(job)
    found = cls.__jobrt_definition__
    return found if isinstance(found, JobDefinition) else _define(cls)


def _define(cls: type[Job]) -> JobDefinition:
    pending = cls.__jobrt_definition__
    if not isinstance(pending, _Pending):
        raise InvalidJob(_abstract(cls))
    try:
        payload = payload_of(cls, local=pending.local)
    except Unresolved as unresolved:
        raise _NotYet(unresolved.message(cls.__name__)) from None
    except CodecError as error:
        raise InvalidJob(error.message(cls.__name__)) from None
    _check_unique_fields(cls, payload)
    versions: Versions = pending.settings["versions"]
    check_removed(cls.__name__, versions, payload)
    definition = JobDefinition(
        **pending.settings,
        job_class=cls,
        shape=shape_of(payload, versions),
        payload=payload,
        encode=payload.encode,
        decode=payload.decode,
    )
    cls.__jobrt_definition__ = definition
    return definition


def _check_unique_fields(cls: type[Job], payload: Payload) -> None:
    names = {field.name for field in payload.fields}
    for path in cls.UNIQUE.by if cls.UNIQUE else ():
        root, _, field = path.partition(".")
        if root == "args" and field and field not in names:
            fields = ", ".join(names) or "none"
            raise InvalidJob(f"{cls.__name__}.UNIQUE has {path!r}, but the fields are {fields}")


def _abstract(cls: type) -> str:
    return f"{cls.__name__} is abstract: only a subclass that defines run(self, ctx) is a job"


def _make_abstract(cls: type[Job]) -> None:
    """Make the constructor raise `InvalidJob`; subclasses get their own constructors."""

    def __init__(_self: object, *_args: object, **_kwargs: object) -> None:  # noqa: N807
        raise InvalidJob(_abstract(cls))

    cls.__jobrt_definition__ = None
    type.__setattr__(cls, "__init__", __init__)


# --------------------------------------------------------------------------------------------------- fields


def _make_attrs(cls: type[Job], *, kw_only: bool) -> None:
    """Convert `cls` to a frozen attrs class, in place."""
    owner = cls.__name__
    if "__init__" in vars(cls):
        raise InvalidJob(
            f"{owner}.__init__ is generated: use defaults, converters or __attrs_post_init__ instead"
        )
    for name in _CONSTANTS & own_annotations(cls).keys() - vars(cls).keys():
        raise InvalidJob(f"{owner}.{name} is a constant and not a field: write {name} = … to set its value")
    try:
        attrs.define(
            cls, slots=False, frozen=True, auto_attribs=True, kw_only=kw_only, field_transformer=_only_fields
        )
    except attrs.exceptions.UnannotatedAttributeError as error:
        raise InvalidJob(
            f"{owner}: a field has no annotation ({error}); write name: type = attrs.field(…)"
        ) from None


def _only_fields(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Check and return the fields of the payload; annotated constants are no fields."""
    kept = [field for field in fields if field.name not in _CONSTANTS]
    optional_seen = False
    for field in kept:
        label = f"{cls.__name__}.{field.name}"
        if field.name in _RESERVED or field.name.startswith("_"):
            raise InvalidJob(
                f"{label}: a field name must not start with an underscore, or be run or with_options"
            )
        if type(field.default).__hash__ is None:
            raise InvalidJob(
                f"{label}: the default {field.default!r} would be shared by all jobs; "
                f"write attrs.field(factory={type(field.default).__name__})"
            )
        positional = field.init and not field.kw_only
        if positional and optional_seen and field.default is attrs.NOTHING:
            raise InvalidJob(
                f"{label} has no default but follows fields that have one: add a default, move it up, "
                f"or write class {cls.__name__}(…, kw_only=True)"
            )
        optional_seen = optional_seen or (positional and field.default is not attrs.NOTHING)
    return kept


def _check_keywords(owner: str, keywords: Iterable[str]) -> None:
    """Refuse a keyword that is nearly one of a job class; others are for mixins."""
    for name in keywords:
        close = nearest(name, ("abstract", "kw_only"))
        if close:
            raise InvalidJob(f"class {owner}(…, {name}=…): the keyword is unknown: did you mean {close}?")


def _check_spelling(cls: type) -> None:
    """Refuse a name in capitals that is nearly one of a constant: the constant would have its default, in silence."""
    own = [base for base in cls.__mro__ if base is cls or not issubclass(base, Job)]
    names = {name for base in own for name in (*vars(base), *own_annotations(base)) if name.isupper()}
    for name in sorted(names - _CONSTANTS):
        close = nearest(name, _CONSTANTS, cutoff=VERY_CLOSE)
        if close:
            raise InvalidJob(
                f"{cls.__name__}.{name} is not a constant of jobs: did you mean {close}? If it is your own, use a name"
                " that is less alike"
            )


_CONSTANTS: Final = frozenset(name for name in own_annotations(Job) if name.isupper())
_RESERVED: Final = frozenset({"run", "with_options"})


# ------------------------------------------------------------------------------------------------- constants


def _settings(cls: type[Job]) -> dict[str, Any]:
    owner = cls.__name__
    return {
        "name": checked_name(f"{owner}.NAME", cls.NAME),
        "queue": checked_name(f"{owner}.QUEUE", cls.QUEUE),
        "priority": checked_priority(f"{owner}.PRIORITY", cls.PRIORITY),
        "max_attempts": checked_count(f"{owner}.MAX_ATTEMPTS", cls.MAX_ATTEMPTS, without="no limit"),
        "max_concurrency": checked_count(
            f"{owner}.MAX_CONCURRENCY", cls.MAX_CONCURRENCY, without="only the queue's limit"
        ),
        "timeout": checked_timeout(f"{owner}.TIMEOUT", cls.TIMEOUT),
        "park": checked_duration(f"{owner}.PARK", cls.PARK, zero=True, error=InvalidJob).total_seconds(),
        "backoff": as_backoff(cls.BACKOFF, owner=owner),
        "retry": as_retry(cls.RETRY, owner=owner),
        "unique": checked_unique(f"{owner}.UNIQUE", cls.UNIQUE),
        "versions": checked_versions(owner, cls, name=cls.NAME),
    }


def _runner(cls: type[Job]) -> dict[str, Any] | None:
    """Return `run` and where it is executed; None if the class has no `run`."""
    owner, run = cls.__name__, inspect.getattr_static(cls, "run", None)
    if cls.RUN_IN is not None:
        checked_run_in(f"{owner}.RUN_IN", cls.RUN_IN)
    if run is None or getattr(run, "__isabstractmethod__", False):
        return None
    if isinstance(run, staticmethod | classmethod) or not callable(run):
        raise InvalidJob(f"{owner}.run must be a method: async def run(self, ctx), or def run(self, ctx)")
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise InvalidJob(f"{owner}.run is a generator, which a call does not run: use return and not yield")
    try:
        signature(run).bind(None, None)
    except TypeError:
        raise InvalidJob(
            f"{owner}.run{signature(run)} does not accept a context: use run(self, ctx)"
        ) from None
    return {"run": run, "run_in": _place(cls, is_async=inspect.iscoroutinefunction(run))}


def _place(cls: type[Job], *, is_async: bool) -> RunIn:
    """Return where `run` is executed; raise `InvalidJob` if it cannot be executed there."""
    owner = cls.__name__
    if cls.RUN_IN is None:
        return "trio" if is_async else "thread"
    if is_async != (cls.RUN_IN in {"trio", "asyncio"}):
        kind, places = ("async def", "'trio' or 'asyncio'") if is_async else ("def", "'thread' or 'process'")
        raise InvalidJob(f"{owner}.RUN_IN is {cls.RUN_IN!r}, but run is {kind}: use {places}")
    if cls.RUN_IN == "asyncio":
        check_asyncio(f"{owner}.RUN_IN")
    if cls.RUN_IN == "process" and "<locals>" in cls.__qualname__:
        label = f"{owner}.RUN_IN is 'process'"
        raise InvalidJob(
            f"{label}, but a process cannot import {cls.__qualname__}: define it at module level"
        )
    return cls.RUN_IN
