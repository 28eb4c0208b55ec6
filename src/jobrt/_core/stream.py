"""The stream of a job: what is appended, what is read, and which updates a reader makes of it."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from jobrt._core.arguments import is_int, refused, shown
from jobrt._core.escape import printable
from jobrt._core.states import FINAL
from jobrt._core.stored import json_value, progress_of, shown_text, state_of
from jobrt._core.text import clipped, why_no_key
from jobrt._core.updates import Emitted, Gap, LogLine, OperatorAction, ProgressChange, StateChange, Update
from jobrt.errors import InvalidFilter, InvalidJob

ENTRIES_KEPT: Final = 1000
"""Entries of a job that are kept: the newest ones."""
BYTES_KEPT: Final = 256 * 1024
"""Bytes of JSON of a job's entries that are kept."""
EMIT_LIMIT: Final = 64 * 1024
"""Bytes of JSON that an emitted value may have."""
MESSAGE_LIMIT: Final = 8_000
"""Characters of a log line's message, and of its traceback, that are kept. In JSON one may have 12 bytes."""
_KEY_LIMIT: Final = 200
"""Characters of the key of an emitted value."""

Kind: TypeAlias = Literal["log", "emit", "action"]


class Entry(NamedTuple):
    """Entry to append: its kind, its JSON text in ASCII, its key, and the seconds since it was made."""

    kind: Kind
    value: str
    key: str | None = None
    age: float = 0.0


class Append(NamedTuple):
    """Batch of entries of one attempt.

    ``batch`` counts the batches of the attempt from 1. A batch that is appended twice is stored once. ``dropped`` is
    how many entries before these were not kept; their numbers are used up.
    """

    id: int
    lease: int
    batch: int
    entries: tuple[Entry, ...]
    dropped: int = 0


class StoredEntry(NamedTuple):
    """Entry as it is stored."""

    number: int
    at: datetime
    attempt: int
    kind: str
    key: str | None
    value: str


class StreamPage(NamedTuple):
    """Job and its entries behind a cursor, from one snapshot; ``last`` is the number of the newest entry, or 0."""

    state: str
    attempt: int
    progress: str | None
    last: int
    entries: tuple[StoredEntry, ...] = ()


class Seen(NamedTuple):
    """What a reader has seen of a job so far."""

    cursor: int
    state: tuple[str, int] | None = None
    progress: str | None = None
    over: bool = False
    """The job is final, so there is nothing more to come."""


# ------------------------------------------------------------------ checks


def checked_cursor(value: object) -> int:
    """Return the cursor from which a job is followed."""
    if is_int(value) and isinstance(value, int) and value >= 0:
        return value
    raise refused(
        "follow: after", value, use="0, or the cursor of an update of this job", error=InvalidFilter
    )


def check_cursor_of(job_id: int, after: int, last: int) -> None:
    """Raise `InvalidFilter` if a cursor is beyond the job's entries, so that it must be another job's."""
    if after > last:
        has = "1 entry" if last == 1 else f"{last} entries"
        raise InvalidFilter(
            f"follow: after is {after}, but job {job_id} has {has}: use 0, or the cursor of an update of this job"
        )


def checked_emit(job: str, text: str, key: object) -> str | None:
    """Return the key of an emitted value; raise `InvalidJob` for a bad key, or a value whose JSON text is too large."""
    if len(text) > EMIT_LIMIT:
        raise InvalidJob(
            f"{job}: ctx.emit: the value has {len(text)} bytes of JSON, and at most {EMIT_LIMIT} are stored:"
            " emit a part of it, or where it can be found"
        )
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= _KEY_LIMIT:
        raise InvalidJob(
            f"{job}: ctx.emit: key is {shown(key)}: use a string of 1 to {_KEY_LIMIT} characters"
        )
    if problem := why_no_key(key):
        raise InvalidJob(f"{job}: ctx.emit: key {shown(key)} {problem}; use another key")
    return key


def log_value(level: str, message: str, traceback: str | None) -> dict[str, Any]:
    """Return a log line as it is stored."""
    value: dict[str, Any] = {"level": level.lower(), "message": clipped(message, MESSAGE_LIMIT)}
    return value if traceback is None else value | {"traceback": clipped(traceback, MESSAGE_LIMIT)}


def action_value(who: str, what: str, why: str) -> str:
    """Return an action of an operator as it is stored."""
    texts = {"who": who, "what": what, "why": why}
    return json.dumps({name: clipped(printable(text), MESSAGE_LIMIT) for name, text in texts.items()})


# ------------------------------------------------------------------ reading


def updates(seen: Seen, page: StreamPage) -> tuple[Seen, list[Update]]:
    """Return the updates that a page brings to a reader, and what the reader has seen then.

    A final state comes after all entries, any other state before them.
    """
    found: list[Update] = []
    state = state_of(page.state)
    now = (page.state, page.attempt)
    final, changed = state in FINAL, now != seen.state
    if changed and not final:
        found.append(StateChange(seen.cursor, state, page.attempt))
    found += _entries(seen.cursor, page)
    cursor = max(seen.cursor, page.last)
    if page.progress is not None and page.progress != seen.progress:
        found += [ProgressChange(cursor, progress) for progress in [progress_of(page.progress)] if progress]
    if final:
        found.append(StateChange(cursor, state, page.attempt))
    return Seen(cursor, now, page.progress, over=final), found


def _entries(cursor: int, page: StreamPage) -> Iterator[Update]:
    """Yield the entries, and a gap wherever some are not kept any more."""
    for entry in page.entries:
        if entry.number > cursor + 1:
            yield Gap(entry.number - 1, entry.number - 1 - cursor)
        cursor = entry.number
        yield _entry(entry)
    if page.last > cursor:
        yield Gap(page.last, page.last - cursor)


def _entry(entry: StoredEntry) -> Update:
    """Return the update for an entry; one that cannot be read is shown as a value."""
    value = json_value(entry.value)
    if entry.kind == "log" and isinstance(value, dict):
        level, message, traceback = (value.get(name) for name in ("level", "message", "traceback"))
        if isinstance(level, str) and isinstance(message, str):
            lines = traceback if isinstance(traceback, str) else None
            return LogLine(entry.number, entry.at, entry.attempt, level, message, lines)
    if entry.kind == "action" and isinstance(value, dict):
        texts = [text for name in ("who", "what", "why") if isinstance(text := value.get(name), str)]
        if len(texts) == 3:  # noqa: PLR2004 - all of them
            return OperatorAction(entry.number, entry.at, entry.attempt, *texts)
    key = None if entry.key is None else shown_text(entry.key)
    return Emitted(entry.number, entry.at, entry.attempt, value, key)
