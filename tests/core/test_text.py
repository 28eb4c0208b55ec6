"""Texts that any engine can store, and what is told of an exception whatever its class does."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrt._core.arguments import shown
from jobrt._core.attempts import Stop, classify, only_leaf, unwritable
from jobrt._core.interrupt import from_signal
from jobrt._core.job import Outcome
from jobrt._core.retry import delay_for, should_retry
from jobrt._core.text import (
    REASON_LIMIT,
    TRACEBACK_LIMIT,
    clipped,
    describe,
    in_one_line,
    is_storable,
    storable,
    why_no_key,
)
from tests.core.test_attempts import claimed
from tests.core.test_retry import record
from tests.support.hostile import hostile

# For tests whose examples take long to make.
few = settings(max_examples=settings().max_examples // 3)


def _sound(text: str) -> bool:
    return type(text) is str and "\0" not in text and text.encode().decode() == text


@given(hostile())
def test_any_text_becomes_storable_and_then_stays(text: str) -> None:
    """A sound text is not changed; of any other it can be read what it was."""
    made = storable(text)
    assert _sound(made)
    assert storable(made) == made
    assert (made == text) is is_storable(text) is (why_no_key(text) is None)


@pytest.mark.parametrize(("text", "problem"), [("a\0b", "NUL"), ("x\udce9", "surrogates"), ("ä", "None")])
def test_a_text_that_cannot_be_a_name_is_told_why(text: str, problem: str) -> None:
    """The message goes on after the name."""
    assert problem in str(why_no_key(text))


@given(hostile(), st.integers(1, 100))
def test_a_clipped_text_keeps_its_end(text: str, limit: int) -> None:
    """What was left out is said."""
    made = clipped(text, limit)
    assert _sound(made)
    assert made.endswith(storable(text)[-limit:])
    assert ("characters left out" in made) >= (len(storable(text)) > limit)
    assert len(made) <= limit + 40


def test_what_is_escaped_reads_as_in_python() -> None:
    """A byte of a file name that is not UTF-8, half an emoji, a NUL."""
    assert storable("caf\udce9 \ud83d \0 é") == "caf\\udce9 \\ud83d \\x00 é"


class _Text(str):
    __slots__ = ()

    def isascii(self) -> bool:
        raise ZeroDivisionError

    def encode(self, *_: Any) -> Any:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    """None of its methods is called."""
    assert storable(_Text("x\0")) == "x\\x00"
    assert type(clipped(_Text("x"))) is str


# ------------------------------------------------------------------ exceptions

_PROBLEMS: list[type[BaseException]] = [
    ValueError,
    RecursionError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
]


class Held:
    """Holder of an exception, since what shows a drawn value would call its methods."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@st.composite
def exceptions(draw: st.DrawFn) -> Held:
    """Draw an exception whose class does whatever a class can do."""
    base = draw(st.sampled_from([Exception, BaseException, OSError, SyntaxError, KeyError, NameError]))
    methods: dict[str, Any] = {}
    for name in draw(st.sets(st.sampled_from(_METHODS))):
        methods[name] = draw(_DEEDS)
    kind = type("Odd", (base,), methods)
    kind.__qualname__ = draw(hostile(size=2_000))
    error: BaseException = kind(draw(hostile()))
    if draw(st.booleans()):
        with contextlib.suppress(AttributeError):  # its class has a property of that name
            BaseException.__setattr__(error, "__notes__", [draw(hostile(size=2_000))])
    if draw(st.booleans()):
        others = [held.error for held in draw(st.lists(exceptions(), max_size=2))]
        with contextlib.suppress(BaseException):  # of which a class says that its instances are no exceptions
            error = BaseExceptionGroup("group", [error, *others])
    if draw(st.booleans()):
        BaseException.__cause__.__set__(error, draw(exceptions()).error)  # type: ignore[attr-defined]
    return Held(error)


_METHODS = [
    "__str__",
    "__repr__",
    "__class__",
    "__eq__",
    "__hash__",
    "__getattribute__",
    "__notes__",
    "__bool__",
]


def _raises(kind: type[BaseException]) -> Callable[..., Any]:
    def deed(*_: Any) -> Any:
        raise kind("from a method")

    return deed


def _returns(value: object) -> Callable[..., Any]:
    return lambda *_: value


_DEEDS = st.one_of(
    st.sampled_from(_PROBLEMS).map(_raises),
    st.sampled_from(_PROBLEMS).map(lambda kind: property(_raises(kind))),
    st.sampled_from([None, 5, b"x", "x\udce9"]).map(_returns),
    hostile().map(_returns),
)


def test_an_exception_that_cannot_be_formatted_has_its_frames() -> None:
    """To format it, Python asks its class, and that fails."""

    def fail() -> None:
        raise type("Odd", (Exception,), {"__getattribute__": _raises(ValueError)})

    try:
        fail()
    except Exception as error:  # noqa: BLE001 - the class is made here
        trace = describe(error).traceback
    assert "in fail" in trace
    assert trace.endswith("Odd: formatting the exception failed\n")


@few
@given(exceptions())
def test_any_exception_can_be_described(held: Held) -> None:
    """Nothing is raised, and all of it is storable, of limited length, and says something."""
    error = held.error
    found = describe(error)
    assert all(map(_sound, (found.error_type, found.message, found.traceback)))
    assert found.message or not found.error_type
    assert len(found.message) <= REASON_LIMIT + 40
    assert len(found.traceback) <= TRACEBACK_LIMIT + 40
    line = in_one_line(error)
    assert "\n" not in line
    assert len(line) <= 500
    assert _sound(shown(error))


@few
@given(exceptions(), st.sampled_from(Stop) | st.none(), hostile())
def test_any_exception_ends_an_attempt(held: Held, stop: Stop | None, reason: str) -> None:
    """Every text of its record can be stored, and also if the storage refuses with such an error."""
    error = held.error
    ended = classify(error, stop, reason)
    assert all(
        _sound(text) for text in (ended.error_type, ended.message, ended.traceback) if text is not None
    )
    only_leaf(error)
    kept = unwritable(Outcome(7, 40), claimed(), error=error, delay=1.0)  # type: ignore[arg-type]  # worse than any
    assert kept.message is not None
    assert kept.message.isascii()
    assert len(kept.message) <= 12 * REASON_LIMIT
    json.dumps(kept.message)


# ------------------------------------------------------------------ interrupts


@contextmanager
def _handler(handler: Any) -> Generator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _caught(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - it is what the test is about
        return error
    raise AssertionError


def test_an_interrupt_is_told_by_the_handler_that_raised_it() -> None:
    """The same exception, raised by code, is nobody's wish to end the program; in a group as well."""
    with _handler(_interrupt):
        sent = _caught(lambda: signal.raise_signal(signal.SIGINT))
        raised = _caught(_raises(KeyboardInterrupt))
        assert from_signal(sent)
        assert not from_signal(raised)
        assert from_signal(BaseExceptionGroup("g", [ValueError(), BaseExceptionGroup("h", [sent])]))
        assert not from_signal(BaseExceptionGroup("g", [ValueError(), raised]))
        assert not from_signal(ValueError())


def test_a_real_interrupt_goes_through_what_calls_users_code() -> None:
    """It is not taken for a failing `str()`."""

    class Slow(Exception):
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "slow"

    with _handler(_interrupt), pytest.raises(KeyboardInterrupt):
        describe(Slow())


def test_a_real_interrupt_goes_through_strategies() -> None:
    """RETRY and BACKOFF are code of users as well."""

    def interrupted(_: object) -> Any:
        signal.raise_signal(signal.SIGINT)

    running = record()
    with _handler(_interrupt):
        with pytest.raises(KeyboardInterrupt):
            should_retry(interrupted, attempt=1, error=ValueError())
        with pytest.raises(KeyboardInterrupt):
            delay_for(interrupted, attempt=1, error=ValueError(), record=running, chance=lambda: 0.5)
