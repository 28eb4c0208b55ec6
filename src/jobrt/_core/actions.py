"""Actions of operators on jobs, queues and cron entries, as they are kept."""

from datetime import datetime
from typing import Final, Literal, TypeAlias

import attrs

from jobrt._core.escape import printable
from jobrt._core.text import clipped

ACTIONS_KEPT: Final = 10_000
"""Actions that are kept: the newest ones."""
_TEXT_LIMIT: Final = 1_000
"""Characters of each text of an action that are kept."""

Subject: TypeAlias = Literal["queue", "cron", "jobs"]
"""What an action was about."""


@attrs.frozen
class NewAction:
    """Action to keep. Create it with `new_action`."""

    subject: Subject
    name: str
    who: str
    what: str
    why: str


@attrs.frozen
class Action:
    """Something that an operator did.

    Args:
        id: its number; later actions have larger ones.
        at: when it was stored, by the database's clock.
        subject: what it was about: ``queue``, ``cron`` or ``jobs``.
        name: name of the queue or the cron entry; the id of a job, and ``""`` if there were several.
        who: name or address of the operator, or user and host of a program.
        what: what was done, such as ``paused queue mail``.
        why: the reason that was given, or ``""``.

    """

    id: int
    at: datetime
    subject: str
    name: str
    who: str
    what: str
    why: str


def new_action(subject: Subject, name: str, *, who: str, what: str, why: str) -> NewAction:
    """Return an action to keep, with texts that can be stored and shown."""
    return NewAction(subject, name, *(clipped(printable(text), _TEXT_LIMIT) for text in (who, what, why)))
