"""Updates about a job, in words and as server-sent events."""

import json
from datetime import datetime

from jobrt._core.escape import printable_lines
from jobrt._core.updates import Emitted, Gap, LogLine, OperatorAction, ProgressChange, StateChange, Update


def update_in_words(update: Update) -> str:
    """Return an update as one line, and indented lines for a traceback. What others wrote is printable."""
    match update:
        case StateChange(state=state, attempt=attempt):
            words = f"{state}, attempt {attempt}" if attempt else f"{state}"
        case ProgressChange(progress=progress):
            of = "" if progress.total is None else f" of {progress.total:g}"
            words = f"progress {progress.done:g}{of} {progress.note}".rstrip()
        case LogLine(at=at, level=level, message=message, traceback=traceback):
            lines = message if traceback is None else f"{message}\n{traceback}"
            words = f"{_time(at)} {level.upper()} {lines}"
        case Emitted(at=at, value=value, key=key):
            name = "" if key is None else f"{key} = "
            words = f"{_time(at)} {name}{json.dumps(value, ensure_ascii=False)}"
        case OperatorAction(at=at):
            words = f"{_time(at)} {update.words}"
        case Gap(missing=missing):
            words = f"({missing} earlier entries are not kept any more)"
        case _:
            words = json.dumps(update.as_dict(), ensure_ascii=False)
    return printable_lines(words)


def _time(moment: datetime) -> str:
    try:
        return moment.astimezone().strftime("%H:%M:%S")
    except (OSError, OverflowError, ValueError):  # too far away for this machine's time zone
        return f"{moment:%H:%M:%S}"


def as_event(update: Update) -> str:
    """Return an update as a server-sent event. Its id is the cursor, with which a browser goes on after a break."""
    return f"id: {update.cursor}\nevent: {update.kind}\ndata: {json.dumps(update.as_dict())}\n\n"
