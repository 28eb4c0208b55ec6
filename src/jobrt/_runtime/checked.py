"""Checks of what a running job says: its progress, its checkpoints, the names of its steps."""

import json
import math
import operator
from typing import Any

from jobrt._core.job import Progress
from jobrt._core.text import clipped, shown, why_no_key
from jobrt.errors import InvalidJob

_NOTE_LIMIT = 1000
"""Characters of a note about progress that are kept."""


def checked_progress(job: str, done: object, *, total: object, note: object) -> Progress:
    """Return a progress that can be stored; raise `InvalidJob` for values that are no numbers, or no text."""
    if not isinstance(note, str):
        raise InvalidJob(f"{job}: ctx.progress: note is {shown(note)}: use a string")
    return Progress(
        _number(done, f"{job}: ctx.progress: done"),
        None if total is None else _number(total, f"{job}: ctx.progress: total"),
        clipped(note, _NOTE_LIMIT),
    )


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
        raise InvalidJob(f"{job}: step {name!r}: use a string as its name")
    if problem := why_no_key(name):
        raise InvalidJob(
            f"{job}: step {name!r}: the name {problem}; use os.fsencode(name).hex(), for example"
        )
    return name


def json_text(value: Any, what: str) -> str:
    """Return a value as JSON text; `what` begins the message of `InvalidJob`."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"{what}: {error}; use JSON values") from error
