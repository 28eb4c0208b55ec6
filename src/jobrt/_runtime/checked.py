"""Checks of what a running job says: its progress, its checkpoints, the names of its steps."""

import json
import math
import operator
from typing import Any, cast

from jobrt._core.arguments import shown
from jobrt._core.job import Progress
from jobrt._core.text import clipped, is_storable, why_no_key
from jobrt._json import TOO_DEEP, is_too_deep
from jobrt.errors import InvalidJob

_NOTE_LIMIT = 1000
"""Characters of a note about progress that are kept."""
_FAR = 2.0**63
"""Size of numbers that need no second look."""


def checked_progress(job: str, done: object, *, total: object, note: object) -> Progress:
    """Return a progress that can be stored; raise `InvalidJob` for values that are no numbers, or no text."""
    if not isinstance(note, str):
        raise InvalidJob(f"{job}: ctx.progress: note is {shown(note)}: use a string")
    if len(note) > _NOTE_LIMIT or not is_storable(note):
        note = clipped(note, _NOTE_LIMIT)
    if not (_is_plain(done) and (total is None or _is_plain(total))):
        done = _number(done, f"{job}: ctx.progress: done")
        total = None if total is None else _number(total, f"{job}: ctx.progress: total")
    return Progress(cast("float", done), cast("float | None", total), note)


def _is_plain(value: object) -> bool:
    """Return whether a value is a finite number of Python's own, as nearly all are: progress is to cost little."""
    return (type(value) is int or type(value) is float) and -_FAR < value < _FAR


def _number(value: Any, label: str) -> float:
    """Return a number of any library as Python's own."""
    try:
        number = operator.index(value) if hasattr(type(value), "__index__") else value.__float__()
        if math.isfinite(number):
            return number if type(number) is int else float(number)
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    raise InvalidJob(f"{label} is {shown(value)}: use a finite number")


def checkpoint_text(job: str, value: Any) -> str:
    """Return a checkpoint as JSON text; raise `InvalidJob` if it is not JSON."""
    return json_text(value, f"{job}: ctx.checkpoint")


def checked_step(job: str, name: object) -> str:
    """Return the name of a step; raise `InvalidJob` if it cannot be stored as it is."""
    if not isinstance(name, str):
        raise InvalidJob(f"{job}: step {shown(name)}: use a string as its name")
    if problem := why_no_key(name):
        raise InvalidJob(
            f"{job}: step {shown(name)}: the name {problem}; use os.fsencode(name).hex(), for example"
        )
    return name


def json_text(value: Any, what: str) -> str:
    """Return a value as JSON text; `what` begins the message of `InvalidJob`."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"{what}: {error}; use JSON values") from error
    if is_too_deep(text):  # it could not be read again
        raise InvalidJob(f"{what}: {TOO_DEEP}; use flatter JSON values")
    return text
