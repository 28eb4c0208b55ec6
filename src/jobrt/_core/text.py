"""Texts on their way into the storage, and what is told of an exception.

There are two kinds of text. What somebody *says* (a reason, a message, a traceback) is written in any case:
`storable` escapes what an engine cannot hold. What is a *key* (a name of a queue, a job, a step) must not become
another key by that: it is refused if it is not storable, and a filter for it matches nothing.
"""

import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final

import attrs

from jobrt._core.interrupt import from_signal
from jobrt._core.tracebacks import program_frames, traceback_text

_OUR_FRAMES = re.compile(
    r'(?:  File "[^"\n]*[/\\]jobrt[/\\](?:_[a-z]+[/\\])?[a-z_]+\.py", line \d+, in .*\n(?:    .*\n)*)*'
)
"""Frames of jobrt, each with its source line and marks."""
_NESTING = re.compile(
    r'  File "[^"\n]*[/\\]jobrt[/\\](?:_runtime[/\\](?:hooks|runners)|_registry[/\\]function_jobs)\.py", '
    r"line \d+, in .*\n(?:    .*\n)*"
)
"""Frames in which a job is nested in hooks: between those of a program's hooks and of its job."""

REASON_LIMIT: Final = 10_000
"""Characters of a reason or an error's message that are kept."""
TRACEBACK_LIMIT: Final = 50_000
"""Characters of a traceback that are kept. A longer one comes from a recursion, whose end is enough."""
_TYPE_LIMIT: Final = 500
"""Characters of the name of an exception's class that are kept: classes can be made at run time."""
_LINE_LIMIT: Final = 500
"""Characters of an error that is told in one line."""


def is_storable(text: str) -> bool:
    """Return whether both engines can hold a text as it is: it has no NUL and no lone surrogate."""
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def storable(text: str) -> str:
    r"""Return a text with what an engine cannot hold escaped as in Python: ``\x00``, ``\udce9``.

    A lone surrogate is most often a byte of a file name that is not UTF-8.
    """
    text = str.__str__(text)  # a subclass may have its own idea of the methods below
    if is_storable(text):
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def clipped(text: str, limit: int = REASON_LIMIT) -> str:
    """Return a storable text of at most `limit` characters; of a longer one the end is kept, and that is said."""
    text = str.__str__(text)
    escaped = storable(text[-limit:])  # of a text of megabytes only what may be kept
    kept = escaped[-limit:]
    left_out = len(text[:-limit]) + len(escaped) - len(kept)
    return f"… {left_out} characters left out …\n{kept}" if left_out else kept


def why_no_key(text: str) -> str | None:
    """Return what is wrong with a text as a name in the database, or None if nothing is."""
    if "\0" in text:
        return "has a NUL character, which PostgreSQL cannot store"
    if not is_storable(text):
        return "has lone surrogates, as a file name that is not UTF-8 has, and no database can store them"
    return None


# ------------------------------------------------------------------ exceptions


@attrs.frozen
class Description:
    """What is recorded of an exception: storable texts of limited length."""

    error_type: str
    message: str
    traceback: str


class Described(Exception):
    """Exception that stands for one raised in another process, with its description, made there.

    ``original`` is that exception, if it could be brought here.
    """

    def __init__(self, description: Description, original: BaseException | None = None) -> None:
        super().__init__(f"{description.error_type}: {description.message}")
        self.description = description
        self.original = original


_TRACEBACK: Final = BaseException.__dict__["__traceback__"]
"""The attribute itself: a class may have its own of that name."""


def describe(error: BaseException) -> Description:
    """Return what is recorded of an exception; it raises nothing, whatever the exception's class does."""
    if type(error) is Described:
        return error.description
    name = type_name(error)
    message = message_of(error)
    frames = program_frames(_TRACEBACK.__get__(error))
    trace = text_from(lambda: traceback_text(error, frames), "") or _bare_traceback(frames, name)
    return Description(name, clipped(message), clipped(trace, TRACEBACK_LIMIT))


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's class, whatever its metaclass says."""
    found: str = type.__dict__["__qualname__"].__get__(type(error))
    return storable(found[:_TYPE_LIMIT])


def message_of(error: BaseException) -> str:
    """Return an exception's text as it is, or the name of its class; it raises nothing."""
    name = type_name(error)
    return text_from(lambda: str(error), f"{name}, whose str() failed") or name


def in_one_line(error: BaseException) -> str:
    """Return an exception's type and message in one line of at most 500 characters; it raises nothing."""
    name, message = type_name(error), text_from(lambda: str(error), "str() failed")[:_LINE_LIMIT]
    return storable(" ".join((f"{name}: {message}" if message else name).split()))[:_LINE_LIMIT]


def _bare_traceback(frames: TracebackType | None, name: str) -> str:
    """Return the frames alone: to format an exception calls code of its class, which failed."""
    lines = text_from(lambda: "".join(traceback.format_tb(frames)), "")
    return f"Traceback (most recent call last):\n{lines}{name}: formatting the exception failed\n"


def text_from(make: Callable[[], str], otherwise: str) -> str:
    """Return what a user's code makes, or else `otherwise`."""
    try:
        found: object = make()
    except BaseException as problem:
        if from_signal(problem):
            raise
        return otherwise
    return str.__str__(found) if issubclass(type(found), str) else otherwise


def user_frames(text: str) -> str:
    """Return a traceback without the frames of jobrt that lead from the worker to the job, also through hooks.

    They are the same in every traceback. If there are only frames of jobrt, the
    traceback is returned as it is.
    """
    head, separator, rest = text.partition("Traceback (most recent call last):\n")
    ours = _OUR_FRAMES.match(rest)
    if head or not separator or ours is None or not rest[ours.end() :].startswith("  File "):
        return text
    return separator + _NESTING.sub("", rest[ours.end() :])
