"""Values of durable scopes: nurseries, their members, and answers to waits. See ``design/scopes.md``."""

from enum import StrEnum
from typing import NamedTuple

from jobrt._core.job import NewJob
from jobrt.errors import LeaseLost


class AncestorEnded(LeaseLost):
    """A job was to get children while one of its ancestors is being ended."""


class AskedToStop(AncestorEnded):
    """A job was to get children while it is asked to stop itself."""


class NurseryState(StrEnum):
    """State of a nursery. All but ``open`` mean that its members are being ended, or have been."""

    OPEN = "open"
    FAILED = "failed"
    """A member failed."""
    CANCELLED = "cancelled"
    """By `Nursery.cancel`, or with its job. The block ends without an error."""
    TOO_SLOW = "too_slow"
    """Its deadline has passed."""
    ABORTED = "aborted"
    """The block was left by an exception or a cancellation. The next run opens it again."""


class NurseryRow(NamedTuple):
    """A nursery as stored.

    ``sealed``: its body has ended in some run, so that later ones can only ask for its members. ``retried``: an attempt
    has failed since, so that members that did not complete run again when they are asked for. ``alive``: whether any
    member is not final. ``members``: whether there are any.
    """

    state: NurseryState
    reason: str
    sealed: bool
    retried: bool
    alive: bool
    members: bool


class Member(NamedTuple):
    """A child as its nursery knows it.

    ``own`` is false for a duplicate from outside, which is no child. ``current``: this attempt of the parent has
    enqueued it, or run it again.
    """

    number: int
    identity: str
    id: int
    name: str
    state: str
    own: bool = True
    current: bool = False


class Child(NamedTuple):
    """A child to add: a new job under an identity, or, with ``rerun``, the final member with this id once more."""

    identity: str
    job: NewJob | None
    rerun: int | None = None


class Answer(NamedTuple):
    """How a wait ended: ``"message"`` with its JSON text, ``"too_slow"``, ``"slept"``, or ``""`` if it goes on."""

    end: str
    value: str | None = None


class Tended(NamedTuple):
    """Result of `ScopeStore.tend`: jobs changed, whether there is more to do now, seconds until the next due time."""

    changed: int
    more: bool
    next_due: float | None
