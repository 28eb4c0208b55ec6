"""What a reader makes of a job's stream, and what may be emitted."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import attrs
import pytest

from jobrt._core.stream import (
    BYTES_KEPT,
    EMIT_LIMIT,
    MESSAGE_LIMIT,
    Seen,
    StoredEntry,
    StreamPage,
    action_value,
    check_cursor_of,
    checked_cursor,
    checked_emit,
    log_value,
    updates,
)
from jobrt._core.updates import Emitted, Gap, LogLine, OperatorAction, ProgressChange, StateChange, Update
from jobrt._records import Progress, State
from jobrt.errors import InvalidFilter, InvalidJob

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(number: int, value: object = 0, *, kind: str = "emit", key: str | None = None) -> StoredEntry:
    """Return a stored entry of the first attempt."""
    return StoredEntry(number, AT, 1, kind, key, json.dumps(value))


def page(*entries: StoredEntry, state: str = "executing", progress: str | None = None) -> StreamPage:
    """Return a page of a job in its first attempt."""
    last = entries[-1].number if entries else 0
    return StreamPage(state, 1, progress, last, entries)


def read(seen: Seen, *pages: StreamPage) -> tuple[Seen, list[Update]]:
    """Return the updates of several pages, one after the other."""
    found: list[Update] = []
    for one in pages:
        seen, more = updates(seen, one)
        found += more
    return seen, found


def test_a_running_job() -> None:
    """Its state comes first, then entries and progress; nothing is told twice."""
    progress = '{"done": 1, "total": 2, "note": "x"}'
    first, second = page(entry(1, [1], key="k")), page(entry(1), entry(2), progress=progress)
    seen, found = read(
        Seen(0), first, page(state="executing")._replace(last=1), second._replace(entries=(entry(2),))
    )
    assert found == [
        StateChange(0, State.EXECUTING, 1),
        Emitted(1, AT, 1, [1], "k"),
        Emitted(2, AT, 1, 0),
        ProgressChange(2, Progress(1, 2, "x")),
    ]
    assert (seen.cursor, seen.over) == (2, False)
    assert updates(seen, second._replace(entries=())) == (seen, [])


def test_a_final_state_comes_last() -> None:
    """Behind all entries and the last progress; then there is nothing more."""
    seen, found = updates(Seen(4), page(entry(5), state="completed", progress='{"done": 1}'))
    assert [type(one) for one in found] == [Emitted, ProgressChange, StateChange]
    assert {one.cursor for one in found} == {5}
    assert seen.over


def test_another_attempt_is_a_change_of_state() -> None:
    """Also if the states in between were not seen."""
    _, found = read(Seen(0), page(), page()._replace(attempt=2))
    assert found == [StateChange(0, State.EXECUTING, 1), StateChange(0, State.EXECUTING, 2)]


def test_entries_that_are_gone_leave_a_gap() -> None:
    """Before the first, between two, and behind the last."""
    pages = page(entry(4), entry(7))._replace(last=9)
    seen, found = updates(Seen(1, ("executing", 1)), pages)
    assert found == [Gap(3, 2), Emitted(4, AT, 1, 0), Gap(6, 2), Emitted(7, AT, 1, 0), Gap(9, 2)]
    assert seen.cursor == 9


def test_log_lines() -> None:
    """They have a level, a message and perhaps a traceback. What is no log line is shown as a value."""
    stored = [
        log_value("INFO", "one", None),
        log_value("ERROR", "two", "trace"),
        {"level": 1, "message": "x"},
        "text",
        {"level": "info", "message": "three", "traceback": 3},
    ]
    lines = [entry(number, value, kind="log") for number, value in enumerate(stored, 1)]
    _, found = updates(Seen(0, ("executing", 1)), page(*lines))
    assert found == [
        LogLine(1, AT, 1, "info", "one"),
        LogLine(2, AT, 1, "error", "two", "trace"),
        Emitted(3, AT, 1, {"level": 1, "message": "x"}),
        Emitted(4, AT, 1, "text"),
        LogLine(5, AT, 1, "info", "three"),
    ]


def test_actions_of_operators() -> None:
    """They have who, what and why, without what would act on a terminal. What is no action is shown as a value."""
    text = action_value("ada", "cancelled job 7", "no\x1b[1m")
    stored = StoredEntry(1, AT, 0, "action", None, text)
    _, found = updates(Seen(0), page(stored, entry(2, {"who": 1}, kind="action")))
    action, odd = found[1:]
    assert isinstance(action, OperatorAction)
    assert (action.who, action.what, action.why) == ("ada", "cancelled job 7", r"no\x1b[1m")
    assert len(action_value("ada", "cancelled job 7", "x" * 10 * MESSAGE_LIMIT)) < MESSAGE_LIMIT + 100
    assert odd == Emitted(2, AT, 1, {"who": 1})
    assert attrs.evolve(action, why="").words == "ada cancelled job 7"
    assert attrs.evolve(action, why="spam").words == "ada cancelled job 7: spam"


def test_whatever_stands_in_a_row_is_shown() -> None:
    """No value, state, key or progress of a row can raise."""
    odd = StoredEntry(1, AT, 1, "log", "\udcff", "[1")
    _, found = updates(Seen(0), StreamPage("odd", 1, "[]", 1, (odd,)))
    assert found == [StateChange(0, State.UNKNOWN, 1), Emitted(1, AT, 1, {"undecodable": "[1"}, "\\udcff")]


def test_updates_as_json() -> None:
    """Each is a dict with its kind, which JSON can hold."""
    given = [
        StateChange(1, State.COMPLETED, 2),
        ProgressChange(2, Progress(1.5, None, "n")),
        LogLine(3, AT, 1, "info", "m"),
        Emitted(4, AT, 1, {"a": [1]}, "k"),
        OperatorAction(5, AT, 0, "ada", "cancelled job 7", "spam"),
        Gap(9, 5),
    ]
    assert [json.loads(json.dumps(one.as_dict())) for one in given] == [
        {"kind": "state", "cursor": 1, "state": "completed", "attempt": 2},
        {"kind": "progress", "cursor": 2, "progress": {"done": 1.5, "total": None, "note": "n"}},
        {
            "kind": "log",
            "cursor": 3,
            "at": "2030-01-02T03:04:05+00:00",
            "attempt": 1,
            "level": "info",
            "message": "m",
            "traceback": None,
        },
        {
            "kind": "emit",
            "cursor": 4,
            "at": "2030-01-02T03:04:05+00:00",
            "attempt": 1,
            "value": {"a": [1]},
            "key": "k",
        },
        {
            "kind": "action",
            "cursor": 5,
            "at": "2030-01-02T03:04:05+00:00",
            "attempt": 0,
            "who": "ada",
            "what": "cancelled job 7",
            "why": "spam",
        },
        {"kind": "gap", "cursor": 9, "missing": 5},
    ]


@pytest.mark.parametrize("value", [-1, "3", None, True, 1.0])
def test_what_is_no_cursor(value: object) -> None:
    """The error shows it, and says what to use."""
    with pytest.raises(InvalidFilter, match=r"follow: after is .*: use 0, or the cursor of an update"):
        checked_cursor(value)
    assert checked_cursor(7) == 7


def test_the_cursor_of_another_job() -> None:
    """One beyond the newest entry cannot be of this job."""
    check_cursor_of(3, after=5, last=5)
    with pytest.raises(InvalidFilter, match="after is 6, but job 3 has 5 entries: use 0, or"):
        check_cursor_of(3, after=6, last=5)
    with pytest.raises(InvalidFilter, match="job 3 has 1 entry"):
        check_cursor_of(3, after=6, last=1)


def test_what_may_be_emitted() -> None:
    """Up to 64 KiB of JSON, with a key that databases can hold."""
    assert checked_emit("J", "x" * EMIT_LIMIT, None) is None
    assert checked_emit("J", "1", "k" * 200) == "k" * 200
    with pytest.raises(InvalidJob, match=f"J: ctx.emit: the value has {EMIT_LIMIT + 1} bytes of JSON, and"):
        checked_emit("J", "x" * (EMIT_LIMIT + 1), None)
    for key in ("", "k" * 201, 5):
        with pytest.raises(InvalidJob, match=r"J: ctx.emit: key is .*: use a string of 1 to 200 characters"):
            checked_emit("J", "1", key)
    with pytest.raises(InvalidJob, match=r"J: ctx.emit: key .* has a NUL character"):
        checked_emit("J", "1", "a\0")


def test_the_largest_log_line_fits() -> None:
    """A line is never so large that it could not be kept."""
    largest = "\U0001f600" * 3 * MESSAGE_LIMIT
    value = log_value("INFO", largest, largest)
    assert len(json.dumps(value)) < BYTES_KEPT
    assert "characters left out" in value["message"]
