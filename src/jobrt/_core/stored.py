"""Values that stand in rows, read so that nothing raises.

A row may have been written by another version of jobrt, by hand, or by a disk that fails. Whatever stands in it
harms that job alone. So the functions here return a value for anything that a column can hold. What cannot be read
is shown as it is: a payload as ``{"undecodable": text}``.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from jobrt._core.job import AttemptRecord, Progress
from jobrt._core.states import End, State
from jobrt._json import read_json

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
"""The times that a datetime can hold; earlier and later ones are shown as these."""

BAD_TAGS: Final = "the stored tags are not a list of strings"
"""Defect of a claimed row."""

_LARGEST_TIMEOUT: Final = 1e18


def shown_text(text: str) -> str:
    r"""Return a text in which lone surrogates, which stand for bytes that are not UTF-8, are written as ``\udcff``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def json_value(text: str | None) -> Any:
    """Return a stored JSON value; None if there is none."""
    if text is None:
        return None
    try:
        return read_json(text)
    except ValueError:
        return {"undecodable": shown_text(text)}


def version_of(value: int | None) -> int:
    """Return a stored version of a payload; without one it is the first."""
    return 1 if value is None else max(value, 1)


def json_object(text: str | None) -> dict[str, Any]:
    """Return a stored payload or metadata."""
    if text is None or text == "{}":
        return {}
    found = json_value(text)
    return found if isinstance(found, dict) else {"undecodable": found}


def truncated(text: str) -> dict[str, Any]:
    """Return what a listing shows of a payload of which it has only the beginning."""
    return {"truncated": f"{shown_text(text)}…"}


def defect_of(metadata: str, defect: str | None) -> str | None:
    """Return why a claimed job cannot run, whatever its payload: what the storage or the metadata say."""
    if defect is not None or metadata == "{}":
        return defect
    try:
        if isinstance(read_json(metadata), dict):
            return None
    except ValueError as error:
        return f"the stored metadata are not JSON ({error})"
    return "the stored metadata are not a JSON object"


def tags_of(value: object) -> tuple[str, ...] | None:
    """Return stored tags; None if they are not a list of strings."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        return None
    items = cast("Sequence[object]", value)
    found = tuple(item for item in items if isinstance(item, str))
    return found if len(found) == len(items) else None


def shown_tags(value: object) -> tuple[str, ...]:
    """Return stored tags for people; what are not tags as one tag that shows them."""
    found = tags_of(value)
    return (f"undecodable: {shown_text(str(value))[:200]}",) if found is None else found


def progress_of(text: str | None) -> Progress | None:
    """Return stored progress; None if it cannot be read, as it is only shown to people."""
    if text is None:
        return None
    found = json_value(text)
    if not isinstance(found, dict):
        return None
    values = cast("dict[str, object]", found)
    done, total, note = values.get("done"), values.get("total"), values.get("note", "")
    if not _is_number(done) or not (total is None or _is_number(total)) or not isinstance(note, str):
        return None
    return Progress(cast("float", done), cast("float | None", total), note)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_TIMEOUT


def attempt_record(
    number: int, end: str, *columns: Any, started_at: datetime | None, finished_at: datetime | None
) -> AttemptRecord:
    """Return a stored attempt. The other columns are worker, error_type, message and traceback."""
    worker, error_type, message, traceback = columns
    known = _ENDS.get(end)
    if known is None:
        what = f"its end is {shown_text(end)!r}, which this version of jobrt does not know"
        message = f"{what}: {message}" if message else what
    finished = finished_at or started_at or EARLIEST
    started = started_at or finished
    return AttemptRecord(
        number, known or End.UNKNOWN, started, finished, worker or "", error_type, message, traceback
    )


_ENDS: Final = {end.value: end for end in End}
_STATES: Final = {state.value: state for state in State}


def state_of(text: str) -> State:
    """Return a stored state."""
    return _STATES.get(text, State.UNKNOWN)


def concurrency_of(value: int | None) -> int | None:
    """Return the concurrency that an operator has set; None, as configured, if it is not one."""
    return value if value is not None and 0 < value < 1 << 31 else None
