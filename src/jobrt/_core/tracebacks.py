"""Tracebacks as texts: the frames of the program, formatted as Python does.

Python formats a frame in 50 µs: it compiles the source line again, to mark the part that failed. Attempts often fail
at the same place, so the texts of frames are kept.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, TracebackType
from typing import Final

_HEAD: Final = "Traceback (most recent call last):\n"

_KEPT: Final = 512
"""Texts of frames that are kept."""
_KEPT_LENGTH: Final = 4_000
"""Characters of a frame's text that is kept: a generated line of source may be long."""

_PACKAGE: Final = f"{Path(__file__).parents[1]}{os.sep}"
_NESTING_FILES: Final = frozenset(
    f"{_PACKAGE}{Path(file)}"
    for file in ("_runtime/hooks.py", "_runtime/runners.py", "_registry/function_jobs.py")
)


def program_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames of a program: without those of jobrt that lead to the job, also through hooks.

    They are the same in every traceback, and to format one takes longer than an empty job does. If there are only
    frames of jobrt, they are returned as they are.
    """
    kept = frames
    while kept is not None and _file(kept).startswith(_PACKAGE):
        kept = kept.tb_next
    if kept is None:
        return frames
    rest = list(_walk(kept))
    if not any(_file(frame) in _NESTING_FILES for frame in rest):
        return kept
    last: TracebackType | None = None
    for frame in reversed(rest):
        if _file(frame) not in _NESTING_FILES:
            last = TracebackType(last, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return last


def _walk(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _file(frame: TracebackType) -> str:
    return frame.tb_frame.f_code.co_filename


def traceback_text(error: BaseException, frames: TracebackType | None) -> str:
    """Return the text of `traceback.format_exception` for an exception with these frames."""
    if _is_simple(error):
        places = [_place(frame) for frame in _walk(frames)]
        if places and len({*places}) == len(places):  # Python shortens recursions
            texts = [_frame_text(frame, place) for frame, place in zip(_walk(frames), places, strict=True)]
            return "".join([_HEAD, *texts, *_last_lines(error)])
    return "".join(traceback.format_exception(type(error), error, frames))


_HINTED: Final = (SyntaxError, NameError, ImportError, AttributeError)
"""Exceptions for which Python looks at more than the message, in the frames too."""


def _is_simple(error: BaseException) -> bool:
    """Return whether the text has nothing but the frames and the exception itself."""
    return (
        error.__cause__ is None
        and error.__context__ is None
        and not isinstance(error, (BaseExceptionGroup, *_HINTED))
        and getattr(sys, "tracebacklimit", None) is None
    )


def _last_lines(error: BaseException) -> list[str]:
    """Return the lines of `traceback.format_exception_only`, which reads the whole exception before."""
    plain = type(error).__module__ == "builtins" and all(type(value) is str for value in error.args)
    if not plain or getattr(error, "__notes__", None) is not None:
        return traceback.format_exception_only(error)
    name, text = type(error).__qualname__, str(error)
    return [f"{name}: {text}\n" if text else f"{name}\n"]


_Place = tuple[CodeType, int, int]

_texts: Final[dict[_Place, str]] = {}


def _place(frame: TracebackType) -> _Place:
    return frame.tb_frame.f_code, frame.tb_lasti, frame.tb_lineno


def _frame_text(frame: TracebackType, place: _Place) -> str:
    """Return the text of one frame."""
    text = _texts.get(place)
    if text is None:
        text = "".join(traceback.format_tb(TracebackType(None, frame.tb_frame, *place[1:])))
        if len(_texts) >= _KEPT:
            _texts.clear()
        if len(text) <= _KEPT_LENGTH:
            _texts[place] = text
    return text
