# ruff: noqa: D101, S301 - the jobs of the tests need no words; pickles are our own
"""Job classes: what the user writes is checked when it is written, and described by one definition."""

from __future__ import annotations

import abc
import enum
import pickle
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs
import pytest
import tenacity

from jobrt._core.unique import Unique
from jobrt._registry import Job, JobDefinition, definition_of
from jobrt.errors import InvalidJob
from tests.registry.making import make_job, make_value

if TYPE_CHECKING:
    from nowhere import Nothing


class SendEmail(Job):
    """Deliver one message."""

    QUEUE = "mail"
    PRIORITY = -1
    MAX_ATTEMPTS = 7
    MAX_CONCURRENCY = 10
    TIMEOUT = timedelta(seconds=1.5)

    to: str
    subject: str = "Hello"
    headers: dict[str, str] = attrs.field(factory=dict)

    async def run(self, ctx: Nothing) -> str:
        return f"{self.to} {ctx}"


class Plain(Job):
    def run(self, ctx: Any) -> int:
        return 1


class Elsewhere(Job):
    RUN_IN = "process"

    def run(self, ctx: Any) -> int:
        return 1


# ------------------------------------------------------------------------------------------------ what it is


def test_a_job_is_a_frozen_attrs_value() -> None:
    """Annotated fields make the constructor, positional or by name; values are equal by fields and never change."""
    job = SendEmail("a@example.com", subject="Hi")
    assert (job.to, job.subject, job.headers) == ("a@example.com", "Hi", {})
    assert job == SendEmail(to="a@example.com", subject="Hi")
    assert job != SendEmail(to="a@example.com")
    assert repr(job) == "SendEmail(to='a@example.com', subject='Hi', headers={})"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        job.to = "b@example.com"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_class_is_made_in_place() -> None:
    """There is one class, so that `super()` and pickling by name work."""

    class Loud(SendEmail):
        def __attrs_post_init__(self) -> None:
            assert super().with_options() is not None

    assert Loud(to="x").to == "x"
    job = SendEmail(to="x", headers={"a": "b"})
    assert pickle.loads(pickle.dumps(job)) == job
    assert pickle.loads(pickle.dumps(definition_of(SendEmail).run)) is SendEmail.run


def test_constants_are_in_the_definition() -> None:
    """A definition says what the constants of the class say, durations in seconds."""
    definition = definition_of(SendEmail)
    assert definition_of(SendEmail(to="x")) is definition
    assert attrs.asdict(
        definition,
        recurse=False,
        filter=attrs.filters.exclude("payload", "encode", "decode", "shape", "versions"),
    ) == {
        "name": "SendEmail",
        "queue": "mail",
        "priority": -1,
        "max_attempts": 7,
        "max_concurrency": 10,
        "timeout": 1.5,
        "backoff": None,
        "retry": None,
        "unique": None,
        "run_in": "trio",
        "park": 10.0,
        "job_class": SendEmail,
        "run": SendEmail.run,
    }


def test_defaults_of_the_constants() -> None:
    """A class without constants has those of the contract, and runs in a thread if `run` is no coroutine."""
    definition = definition_of(Plain)
    assert (definition.name, definition.queue, definition.priority) == ("Plain", "default", 0)
    assert (definition.max_attempts, definition.max_concurrency, definition.timeout) == (5, None, None)
    assert (definition.backoff, definition.retry, definition.unique) == (None, None, None)
    assert definition.run_in == "thread"


def test_a_definition_runs_encodes_and_decodes() -> None:
    """The runtime needs nothing but the definition to run a stored job."""
    definition = definition_of(Plain)
    assert definition.run(definition.decode(definition.encode(Plain())), None) == 1


def test_strategies_are_kept_as_they_are() -> None:
    """BACKOFF, RETRY, UNIQUE and a TIMEOUT function reach the definition untouched."""

    def timeout(job: object) -> float:
        return 3.0

    wait, retry, unique = tenacity.wait_fixed(3), tenacity.retry_if_exception_type(OSError), Unique()
    definition = definition_of(make_job(BACKOFF=wait, RETRY=retry, UNIQUE=unique, TIMEOUT=timeout))
    assert definition.backoff is wait
    assert definition.retry is retry
    assert definition.unique is unique
    assert definition.timeout is timeout


def test_no_limits() -> None:
    """None means no limit, for attempts as for runs at once and time."""
    definition = definition_of(make_job(MAX_ATTEMPTS=None, MAX_CONCURRENCY=None, TIMEOUT=None))
    assert (definition.max_attempts, definition.max_concurrency, definition.timeout) == (None, None, None)


def test_places_to_run() -> None:
    """RUN_IN takes coroutines to Trio or asyncio, functions to a thread or a process."""

    async def coroutine(self: Any, ctx: Any) -> None: ...

    def function(self: Any, ctx: Any) -> None: ...

    assert definition_of(make_job(run=coroutine)).run_in == "trio"
    assert definition_of(make_job(run=coroutine, RUN_IN="trio")).run_in == "trio"
    assert definition_of(make_job(run=coroutine, RUN_IN="asyncio")).run_in == "asyncio"
    assert definition_of(make_job(run=function)).run_in == "thread"
    assert definition_of(make_job(run=function, RUN_IN="thread")).run_in == "thread"
    assert definition_of(Elsewhere).run_in == "process"


# ------------------------------------------------------------------------------------------------ inheritance


class Report(Job, abstract=True):
    QUEUE = "reports"
    NAME = "report"

    customer: int

    async def run(self, ctx: Any) -> Any:
        return self.customer


class Weekly(Report):
    week: int = 1


class Monthly(Report):
    PRIORITY = 3

    month: str = "January"

    async def run(self, ctx: Any) -> Any:
        return (await super().run(ctx), self.month)


def test_job_classes_inherit() -> None:
    """Fields, constants and `run` are inherited; NAME is not, since it must be unique."""
    weekly, monthly = definition_of(Weekly), definition_of(Monthly)
    assert (weekly.name, weekly.queue, weekly.priority) == ("Weekly", "reports", 0)
    assert (monthly.name, monthly.queue, monthly.priority) == ("Monthly", "reports", 3)
    assert weekly.encode(Weekly(7)) == '{"customer":7,"week":1}'
    assert monthly.decode('{"customer":7,"month":"May"}') == Monthly(customer=7, month="May")
    assert weekly.run is Report.run


def test_a_base_is_no_job() -> None:
    """A class that says `abstract=True`, has no `run`, or an abstract one, cannot be made into values."""

    class Empty(Job):
        x: int = 1

    class Asking(Job, abc.ABC):
        @abc.abstractmethod
        async def run(self, ctx: Any) -> None: ...

    for base in (Report, Empty):
        with pytest.raises(
            InvalidJob, match=rf"{base.__name__} is abstract: only a subclass that defines run"
        ):
            make_value(base)
    for base in (Report, Empty, Asking, Job):
        with pytest.raises(InvalidJob, match=rf"{base.__name__} is abstract"):
            definition_of(base)
    with pytest.raises(TypeError, match="abstract"):  # as Python has it
        make_value(Asking)

    class Answering(Asking):
        async def run(self, ctx: Any) -> None: ...

    class Full(Empty):
        async def run(self, ctx: Any) -> None: ...

    class Again(Full, abstract=True): ...

    with pytest.raises(InvalidJob, match=r"Again is abstract"):
        definition_of(Again)

    assert Answering() == Answering()
    assert Full().x == 1


T = TypeVar("T")


class Store(Job, Generic[T], abstract=True):
    value: T
    more: list[T] = attrs.field(factory=list)


class StoreNumber(Store[int]):
    async def run(self, ctx: Any) -> int:
        return self.value


def test_a_generic_base_takes_its_arguments() -> None:
    """A type variable of a base stands for what the subclass gives it."""
    definition = definition_of(StoreNumber)
    assert definition.decode({"value": 3, "more": [4]}) == StoreNumber(3, [4])
    with pytest.raises(InvalidJob, match=r"StoreNumber\.value: expected int, got str 'x'"):
        definition.encode(make_value(StoreNumber, value="x"))


def test_mixins_keep_their_own() -> None:
    """What a mixin annotates is no field, and need not exist when the program runs."""

    class Logging:
        logger: Nothing

        def say(self) -> str:
            return "said"

    class Talk(Logging, Job):
        word: str

        async def run(self, ctx: Any) -> str:
            return self.say()

    assert [field.name for field in definition_of(Talk).payload.fields] == ["word"]
    assert Talk("x").say() == "said"


def test_keyword_only_fields() -> None:
    """With `kw_only=True` a field without a default may come after one that has one."""

    class Options(Job, kw_only=True):
        fast: bool = False
        path: str

        async def run(self, ctx: Any) -> None: ...

    assert definition_of(Options).encode(Options(path="x")) == '{"fast":false,"path":"x"}'


def test_attrs_features_work() -> None:
    """Converters, validators, aliases, derived fields and `__attrs_post_init__` are those of attrs."""

    class Rich(Job):
        name: str = attrs.field(converter=str.strip, alias="called")
        age: int = attrs.field(validator=attrs.validators.ge(0), default=0)
        length: int = attrs.field(init=False)

        def __attrs_post_init__(self) -> None:
            object.__setattr__(self, "length", len(self.name))

        async def run(self, ctx: Any) -> None: ...

    definition = definition_of(Rich)
    job = Rich(called=" x ")
    assert definition.encode(job) == '{"age":0,"name":"x"}'
    assert definition.decode('{"age":0,"name":"x"}') == job
    with pytest.raises(InvalidJob, match=r"Rich: ValueError: 'age' must be >= 0: -1"):
        definition.decode({"name": "x", "age": -1})


# ---------------------------------------------------------------------------------------------------- names


class Early(Job):
    rows: list[Late]

    async def run(self, ctx: Any) -> None: ...


@attrs.frozen
class Late:
    x: int


def test_annotations_may_name_what_comes_later() -> None:
    """A class that is defined further down in the module is found when the definition is needed."""
    assert definition_of(Early).encode(Early([Late(1)])) == '{"rows":[{"x":1}]}'


def test_annotations_may_name_what_is_local() -> None:
    """Names of the functions around a class are found, although the annotations are strings."""

    class Color(enum.Enum):
        RED = "red"

    def inner() -> type[Job]:
        class Paint(Job):
            color: Color
            parts: list[Part]

            async def run(self, ctx: Any) -> None: ...

        return Paint

    @attrs.frozen
    class Part:
        x: Color

    paint = inner()
    assert definition_of(paint).encode(make_value(paint, color=Color.RED, parts=[Part(Color.RED)])) == (
        '{"color":"red","parts":[{"x":"red"}]}'
    )


def test_annotations_may_name_what_is_in_the_class() -> None:
    """A class nested in the job is found."""

    class Import(Job):
        @attrs.frozen
        class Row:
            x: int

        rows: tuple[Row, ...]

        async def run(self, ctx: Any) -> None: ...

    assert definition_of(Import).encode(Import((Import.Row(1),))) == '{"rows":[{"x":1}]}'


def test_code_without_a_module_can_define_jobs() -> None:
    """Names in code that is run by `exec`, as documentation tests do, are found."""
    source = """
        from __future__ import annotations
        from datetime import date
        from jobrt._registry import Job
        class Nightly(Job):
            day: date
            async def run(self, ctx): ...
    """
    names: dict[str, Any] = {}
    exec(textwrap.dedent(source), names)  # noqa: S102 - that is the case under test
    assert definition_of(names["Nightly"]).decode({"day": "2026-01-01"}).day.year == 2026


def test_a_name_that_never_comes_is_an_error_when_needed() -> None:
    """An annotation with an undefined name is reported, with the field, when the definition is needed."""
    job_class = make_job({"rows": "list[Nowhere]"})
    with pytest.raises(InvalidJob, match=r"X\.rows: the annotation 'list\[Nowhere\]' cannot be resolved"):
        definition_of(job_class)


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [
        ("NAME", "", "X.NAME is '': use a name of 1 to 200 printable characters"),
        ("NAME", " x", "use a name"),
        ("NAME", "a\nb", "use a name"),
        ("NAME", 3, "X.NAME is 3: use a name"),
        ("NAME", "x" * 201, "use a name"),
        ("QUEUE", "", "X.QUEUE is '': use a name"),
        ("QUEUE", None, "X.QUEUE is None: use a name"),
        ("PRIORITY", "high", "X.PRIORITY is 'high': use an int from -2147483648 to 2147483647"),
        ("PRIORITY", True, "X.PRIORITY is True"),
        ("PRIORITY", 1.0, "X.PRIORITY is 1.0"),
        ("PRIORITY", 2**31, "X.PRIORITY is 2147483648"),
        ("PRIORITY", -(2**31) - 1, "X.PRIORITY is -2147483649"),
        ("MAX_ATTEMPTS", 0, "X.MAX_ATTEMPTS is 0: use an int above zero, or None for no limit"),
        ("MAX_ATTEMPTS", -1, "X.MAX_ATTEMPTS is -1"),
        ("MAX_ATTEMPTS", 2.5, "X.MAX_ATTEMPTS is 2.5"),
        ("MAX_ATTEMPTS", True, "X.MAX_ATTEMPTS is True"),
        ("MAX_ATTEMPTS", 2**31, "X.MAX_ATTEMPTS is 2147483648"),
        (
            "MAX_CONCURRENCY",
            0,
            "X.MAX_CONCURRENCY is 0: use an int above zero, or None for only the queue's limit",
        ),
        (
            "TIMEOUT",
            0,
            "X.TIMEOUT is 0: use seconds or a timedelta, above zero and at most a century, a function of the job's ",
        ),
        ("TIMEOUT", -0.5, "X.TIMEOUT is -0.5"),
        ("TIMEOUT", float("nan"), "X.TIMEOUT is nan"),
        ("TIMEOUT", float("inf"), "X.TIMEOUT is inf"),
        ("TIMEOUT", timedelta(0), "X.TIMEOUT is datetime.timedelta(0)"),
        ("TIMEOUT", "30", "X.TIMEOUT is '30'"),
        ("TIMEOUT", True, "X.TIMEOUT is True"),
        ("TIMEOUT", timedelta, "X.TIMEOUT is <class 'datetime.timedelta'>"),
        ("BACKOFF", 3, "X.BACKOFF is 3: use a tenacity wait"),
        ("RETRY", OSError, "X.RETRY is <class 'OSError'>: use a tenacity predicate"),
        ("UNIQUE", True, "X.UNIQUE is True: use a jobrt.Unique, or None for no rule"),
        ("RUN_IN", "moon", "X.RUN_IN is 'moon': use 'trio', 'thread', 'process' or 'asyncio'"),
        ("RUN_IN", "thread", "X.RUN_IN is 'thread', but run is async def: use 'trio' or 'asyncio'"),
        ("RUN_IN", "process", "X.RUN_IN is 'process', but run is async def"),
    ],
)
def test_wrong_constants_are_refused_at_once(constant: str, value: object, message: str) -> None:
    """A wrong constant is an error when the class is created; it names class, constant, value and remedy."""
    with pytest.raises(InvalidJob) as caught:
        make_job(**{constant: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TIMOUT", "TIMEOUT"),
        ("MAX_ATEMPTS", "MAX_ATTEMPTS"),
        ("MAX_CONCURENCY", "MAX_CONCURRENCY"),
        ("UNIQ", "UNIQUE"),
        ("ALIAS", "ALIASES"),
        ("VERSIONS", "VERSION"),
    ],
)
def test_a_misspelt_constant_is_refused(name: str, nearest: str) -> None:
    """It would have its default, in silence. Annotated ones and those of a mixin are refused too."""
    message = rf"X\.{name} is not a constant of jobs: did you mean {nearest}\?"
    with pytest.raises(InvalidJob, match=message):
        make_job(**{name: 3})
    with pytest.raises(InvalidJob, match=message):
        make_job(__annotations__={name: "int"})
    mixin = type("Mixin", (), {name: 3})
    with pytest.raises(InvalidJob, match=message):
        type("X", (mixin, Job), {})


def test_a_misspelt_class_keyword_is_refused() -> None:
    """Other keywords are for mixins, as in any class."""
    with pytest.raises(
        InvalidJob, match=r"class X\(…, abstrac=…\): the keyword is unknown: did you mean abstract"
    ):
        types.new_class("X", (Job,), {"abstrac": True})
    with pytest.raises(TypeError):
        types.new_class("X", (Job,), {"metal": True})


@pytest.mark.parametrize("name", ["API_URL", "MAX_ITEMS", "RETRIES", "GAME", "VERSION_OF_X", "T", "__DOC__"])
def test_constants_of_ones_own_are_allowed(name: str) -> None:
    """Names that are not nearly those of jobrt's constants."""
    assert vars(make_job(**{name: 3}))[name] == 3


def test_wrong_constants_of_a_base_are_refused_too() -> None:
    """A base class cannot pass on a constant that no job could have."""
    with pytest.raises(InvalidJob, match=r"X\.MAX_ATTEMPTS is 0"):
        make_job(MAX_ATTEMPTS=0, run=None)
    with pytest.raises(InvalidJob, match=r"X\.RUN_IN is 'moon'"):
        make_job(RUN_IN="moon", run=None)


def test_an_annotated_constant_is_a_constant() -> None:
    """`TIMEOUT: int = 30` sets the constant and makes no field of the payload; so does a ClassVar."""

    class Slow(Job):
        TIMEOUT: int = 30  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]
        QUEUE: ClassVar[str] = "slow"

        x: int

        async def run(self, ctx: Any) -> None: ...

    definition = definition_of(Slow)
    assert (definition.timeout, definition.queue) == (30.0, "slow")
    assert definition.encode(Slow(1)) == '{"x":1}'


def test_an_annotated_constant_without_a_value_is_refused() -> None:
    """`QUEUE: str` may have been meant as a field, which cannot be called that."""
    with pytest.raises(InvalidJob, match=r"X\.QUEUE is a constant and not a field: write QUEUE = …"):
        make_job({"QUEUE": str})


@pytest.mark.parametrize(
    ("fields", "body", "message"),
    [
        (
            {"a": list[int]},
            {"a": []},
            "X.a: the default [] would be shared by all jobs; write attrs.field(factory=list)",
        ),
        ({"a": dict[str, int]}, {"a": {}}, "attrs.field(factory=dict)"),
        ({"a": set[int]}, {"a": {1}}, "attrs.field(factory=set)"),
        ({"a": int}, {"a": "x"}, "X.a: its default is invalid: expected int, got str 'x'"),
        (
            {"a": list[int] | None},
            {"a": (1,)},
            "X.a: its default is invalid: expected list[int], got tuple (1,)",
        ),
        ({"a": int, "b": str}, {"a": 1}, "X.b has no default but follows fields that have one"),
        ({"run": int}, {}, "X.run: a field name must not"),
        ({"with_options": int}, {}, "X.with_options: a field name must not"),
        ({"_a": int}, {}, "X._a: a field name must not start with an underscore"),
        ({}, {"a": attrs.field()}, "X: a field has no annotation"),
        ({"a": "list["}, {}, "X.a: the annotation 'list[' is invalid"),
        ({"a": "3"}, {}, "X.a: "),
        ({}, {"__init__": lambda self: None}, "X.__init__ is generated"),
        ({"a": int}, {"UNIQUE": Unique(by="args.b")}, "X.UNIQUE has 'args.b', but the fields are a"),
        ({}, {"UNIQUE": Unique(by="args.b")}, "X.UNIQUE has 'args.b', but the fields are none"),
    ],
)
def test_wrong_fields_are_refused_at_once(fields: dict[str, Any], body: dict[str, Any], message: str) -> None:
    """A field that cannot work is an error when the class is created; it names the field and the remedy."""
    with pytest.raises(InvalidJob) as caught:
        make_job(fields, **body)
    assert message in str(caught.value)


def test_unique_fields_that_exist_are_fine() -> None:
    """`args.FIELD` in UNIQUE is checked against the fields, and nothing else in it is."""
    assert definition_of(
        make_job({"a": int}, UNIQUE=Unique(by=("name", "args.a", "metadata.b", "queue")))
    ).unique


def _generator(self: Any, ctx: Any) -> Any:
    yield


async def _async_generator(self: Any, ctx: Any) -> Any:
    yield


def _function(self: Any, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda self: None, "X.run(self) does not accept a context: use run(self, ctx)"),
        (lambda self, ctx, more: None, "X.run(self, ctx, more) does not accept a context"),
        (lambda self, *, ctx: None, "does not accept a context"),
        (
            staticmethod(lambda ctx: None),
            "X.run must be a method: async def run(self, ctx), or def run(self, ctx)",
        ),
        (classmethod(lambda cls, ctx: None), "X.run must be a method"),
        (property(lambda self: None), "X.run must be a method"),
        (3, "X.run must be a method"),
        (_generator, "X.run is a generator"),
        (_async_generator, "X.run is a generator"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, (classmethod, staticmethod)) else None,
)
def test_a_wrong_run_is_refused_at_once(run: object, message: str) -> None:
    """A `run` that could not be called with a context is an error when the class is created."""
    with pytest.raises(InvalidJob) as caught:
        make_job(run=run)
    assert message in str(caught.value)


def test_run_may_take_more_that_has_defaults() -> None:
    """What can be called with a context will do."""
    assert definition_of(make_job(run=lambda self, ctx, more=1: more)).run_in == "thread"


@pytest.mark.parametrize("place", ["trio", "asyncio"])
def test_a_function_cannot_run_as_a_coroutine(place: str) -> None:
    """Only `async def` runs in Trio or asyncio."""
    with pytest.raises(InvalidJob, match=rf"X\.RUN_IN is '{place}', but run is def: use 'thread' or"):
        make_job(run=_function, RUN_IN=place)


def test_a_local_class_cannot_run_in_a_process() -> None:
    """Another process finds a class by its name, which a local class does not have."""
    with pytest.raises(InvalidJob, match=r"a process cannot import .*Local: define it at module level"):

        class Local(Job):
            RUN_IN = "process"

            def run(self, ctx: Any) -> None: ...


def test_definitions_are_short_to_look_at() -> None:
    """A definition in a message or a debugger shows what it says, not how it is stored."""
    assert "payload" not in repr(definition_of(Plain))
    assert isinstance(definition_of(Plain), JobDefinition)


@pytest.mark.parametrize("keywords", [{"nonsense": True}])
def test_unknown_class_keywords_are_refused(keywords: dict[str, Any]) -> None:
    """A class keyword that nobody knows is Python's error, as for any class."""
    make: Callable[..., Any] = type
    with pytest.raises(TypeError):
        make("X", (Job,), {}, **keywords)


WITHOUT_WATCHERS = """
import asyncio
import sys
for module in (asyncio, asyncio.events, asyncio.unix_events):
    vars(module).pop("AbstractChildWatcher", None)
from jobrt._registry import settings
settings._MAY_FAIL = True
import jobrt

class Fine(jobrt.Job):
    async def run(self, ctx): ...

try:
    class Old(jobrt.Job):
        RUN_IN = "asyncio"
        async def run(self, ctx): ...
except jobrt.InvalidJob as error:
    print(error)
"""


def test_asyncio_jobs_are_refused_where_trio_asyncio_fails() -> None:
    """As on Python 3.14: one error when the class is created, which names the remedy. Other jobs are not affected."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_WATCHERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert re.fullmatch(
        r"Old\.RUN_IN is 'asyncio', but trio-asyncio does not work with Python 3\.\d+ \(.*AbstractChildWatcher.*\):"
        r" use Python 3\.13 or older, or RUN_IN = 'trio'\n",
        done.stdout,
    )


def test_asyncio_jobs_can_be_run_where_warnings_are_errors() -> None:
    """What trio-asyncio's import warns of on Python 3.12 and 3.13 is not the application's to correct."""
    command = [sys.executable, "-W", "error", "-c", "import jobrt._runtime.asyncio_loop"]
    subprocess.run(command, check=True, timeout=100)
