"""`jobrt._core.tracebacks`: the text of a traceback is Python's, without frames of jobrt."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from jobrt._core import tracebacks
from jobrt._core.tracebacks import program_frames, traceback_text


def caught(function: Callable[[], object]) -> BaseException:
    """Return what a function raises."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - it is what the test is about
        return error
    raise AssertionError("it raised nothing")


def text_of(error: BaseException) -> str:
    """Return the text of an exception with all of its frames."""
    return traceback_text(error, error.__traceback__)


def plain() -> None:
    """Raise an error in a line with marks below it."""
    {"key": 1}["key"] / 0  # type: ignore[operator]


def noted() -> None:
    """Raise an error with a note."""
    error = ValueError("first line\nsecond line")
    error.add_note("a note")
    raise error


def caused() -> None:
    """Raise an error with a cause."""
    raise ValueError("effect") from caught(plain)


def in_a_context() -> None:
    """Raise an error while another is handled."""
    try:
        plain()
    except ZeroDivisionError:
        noted()


def hidden_context() -> None:
    """Raise an error from None."""
    try:
        plain()
    except ZeroDivisionError:
        raise ValueError("shown alone") from None


def grouped() -> None:
    """Raise several errors."""
    raise ExceptionGroup("group", [caught(plain), caught(noted)])


def misspelt(number: int = 1) -> None:
    """Raise an error for which Python has a hint."""
    return nunber  # type: ignore[name-defined]  # noqa: F821


def bad_syntax() -> None:
    """Raise an error that shows a line of another text."""
    compile("1 +", "given", "exec")


def deep(depth: int = 30) -> None:
    """Raise an error at the end of a recursion."""
    if not depth:
        plain()
    deep(depth - 1)


RAISING = (plain, noted, caused, in_a_context, hidden_context, grouped, misspelt, bad_syntax, deep)


@pytest.mark.parametrize("function", RAISING, ids=lambda function: function.__name__)
def test_the_text_is_pythons(function: Callable[[], object]) -> None:
    """When a frame is formatted for the first time, and when its text is known."""
    for _ in range(2):
        error = caught(function)
        assert text_of(error) == "".join(traceback.format_exception(error))


def test_an_error_that_was_never_raised_has_no_frames() -> None:
    """The text is Python's here, too."""
    assert text_of(ValueError("x")) == "ValueError: x\n"


class Unreadable:
    """An argument of an error whose text cannot be made."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError(""),
        KeyError("a"),
        OSError("a", "b"),
        OSError(2, "a"),
        ValueError(Unreadable()),
    ],
)
def test_the_last_line_is_pythons(error: Exception) -> None:
    """With and without a text, and where the text cannot be made."""

    def fail() -> None:
        raise error

    found = caught(fail)
    assert text_of(found) == "".join(traceback.format_exception(found))


def test_pythons_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may have fewer frames shown."""
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    error = caught(plain)
    assert text_of(error) == "".join(traceback.format_exception(error))


def test_few_texts_are_kept() -> None:
    """A program that makes its functions at run time does not fill the memory."""
    for number in range(tracebacks._KEPT + 2):
        code = compile("\n" * number + "raise ValueError", "made", "exec")
        assert f'"made", line {number + 1}' in text_of(caught(lambda code=code: exec(code)))  # type: ignore[misc]  # noqa: S102
    assert len(tracebacks._texts) <= tracebacks._KEPT


def test_long_lines_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have megabytes."""
    monkeypatch.setattr(tracebacks, "_KEPT_LENGTH", 10)
    monkeypatch.setattr(tracebacks, "_texts", {})
    text_of(caught(plain))
    assert tracebacks._texts == {}


# ---------------------------------------------------------------------- frames


def frames_of(*files: str) -> TracebackType | None:
    """Return frames of functions in these files, the outermost first."""
    body: Callable[[], Any] = plain
    for file in reversed(files):
        names: dict[str, Any] = {"body": body}
        exec(compile("def function():\n    body()", file, "exec"), names)  # noqa: S102
        body = names["function"]
    error = caught(body)
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next


def shown(frames: TracebackType | None) -> list[str]:
    """Return the files of frames."""
    return [frame.filename.removeprefix(tracebacks._PACKAGE) for frame in traceback.extract_tb(frames)]


OURS = f"{tracebacks._PACKAGE}_runtime/attempt.py"
HOOKS = f"{tracebacks._PACKAGE}_runtime/hooks.py"
CONTEXT = f"{tracebacks._PACKAGE}_runtime/context.py"


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ((OURS, OURS, "job.py"), ("job.py",)),
        ((OURS, "job.py", CONTEXT), ("job.py", "_runtime/context.py")),
        ((OURS, HOOKS, "hook.py", HOOKS, OURS, "job.py"), ("hook.py", "_runtime/attempt.py", "job.py")),
        (("/home/me/jobrt/jobs.py",), ("/home/me/jobrt/jobs.py",)),
    ],
)
def test_frames_that_lead_to_the_job_are_left_out(files: tuple[str, ...], kept: tuple[str, ...]) -> None:
    """What a job calls is kept, and so is a program in a folder of the same name."""
    assert shown(program_frames(frames_of(*files))) == [*kept, __file__]


def test_an_error_of_jobrt_alone_keeps_its_frames() -> None:
    """They are all that there is."""
    error = caught(lambda: exec(compile("raise ValueError", OURS, "exec")))  # noqa: S102
    ours = error.__traceback__
    while ours is not None and ours.tb_next is not None:
        ours = ours.tb_next
    assert shown(ours) == ["_runtime/attempt.py"]
    assert program_frames(ours) is ours
    assert program_frames(None) is None
