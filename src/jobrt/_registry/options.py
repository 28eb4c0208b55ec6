"""Options of `enqueue` and `with_options`, which replace the settings of the job class."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypedDict, TypeVar, Unpack, cast

import attrs

from jobrt._core.arguments import checked_duration, checked_moment, did_you_mean, refused
from jobrt._core.unique import Unique
from jobrt._payload.payload import encode_json
from jobrt._registry.enqueueable import AnyJob, Enqueueable, ResultT
from jobrt._registry.settings import (
    checked_count,
    checked_name,
    checked_priority,
    checked_seconds,
    checked_unique,
)
from jobrt.errors import InvalidJob


class Unset(enum.Enum):
    """Type of `UNSET`, the value of an option that is not set; None can have a meaning of its own."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET

_Unset = Literal[Unset.UNSET]


class ChangeKeywords(TypedDict, total=False):
    """Options of `enqueue` that can be changed while the job waits; `Client.enqueue` describes them."""

    queue: str
    priority: int
    max_attempts: int | None
    timeout: float | timedelta | None
    schedule_at: datetime | None
    schedule_in: float | timedelta | None
    tags: Iterable[str]
    metadata: Mapping[str, Any]
    context: str | None


class EnqueueKeywords(ChangeKeywords, total=False):
    """Options of `enqueue` and `with_options`; `Client.enqueue` describes them."""

    unique: Unique | None
    deadline_in: float | timedelta | None
    deadline_at: datetime | None
    expires_in: float | timedelta | None
    expires_at: datetime | None


@attrs.frozen(kw_only=True)
class EnqueueOptions:
    """Checked options; `UNSET` means the setting of the job class.

    ``delay`` is the value of ``schedule_in``. ``timeout`` is in seconds. ``metadata_text`` is the metadata as JSON.
    ``deadline`` and ``expires`` are times, or durations from when the job is first due.
    """

    queue: str | _Unset = UNSET
    priority: int | _Unset = UNSET
    max_attempts: int | _Unset | None = UNSET
    timeout: float | None = None
    schedule_at: datetime | None = None
    delay: timedelta | None = None
    tags: tuple[str, ...] | _Unset = UNSET
    metadata: Mapping[str, Any] | _Unset = UNSET
    metadata_text: str = "{}"
    context: str | None = None
    unique: Unique | _Unset | None = UNSET
    deadline: datetime | timedelta | None = None
    expires: datetime | timedelta | None = None
    plain: bool = attrs.field(default=False, eq=False, repr=False)
    """Whether no option but `unique` is set. The row of such a job is made in half the time."""

    def replaced_by(self, later: EnqueueOptions) -> EnqueueOptions:
        """Return these options with those that are set in `later` replaced."""
        given = {
            field.name: getattr(later, field.name)
            for field in attrs.fields(EnqueueOptions)
            if field.eq and getattr(later, field.name) != field.default
        }
        if later.schedule_at is not None or later.delay is not None:  # each replaces the other
            given |= {"schedule_at": later.schedule_at, "delay": later.delay}
        if later.metadata is not UNSET:
            given["metadata_text"] = later.metadata_text
        return attrs.evolve(self, **given, plain=self.plain and later.plain) if given else self


def enqueue_options(label: str, given: EnqueueKeywords) -> EnqueueOptions:
    """Check options; `label` is the name of the job in messages.

    Raises:
        InvalidJob: an option is unknown or invalid.

    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        checked.update(_checked(f"{label}: option {name}", name, value))
    if checked.get("schedule_at") is not None and checked.get("delay") is not None:
        raise InvalidJob(f"{label}: use schedule_at or schedule_in, not both")
    for name in ("deadline", "expires"):
        if given.get(f"{name}_at") is not None and given.get(f"{name}_in") is not None:
            raise InvalidJob(f"{label}: use {name}_at or {name}_in, not both")
    return EnqueueOptions(**checked, plain=checked.keys() <= {"unique"})


def _checked(label: str, name: str, value: Any) -> dict[str, Any]:
    if name in _CHECKS:
        return {name: _CHECKS[name](label, value)}
    match name:
        case "max_attempts":
            return {name: checked_count(label, value, without="no limit")}
        case "timeout":
            return {name: None if value is None else checked_seconds(label, value)}
        case "schedule_in":
            return {"delay": None if value is None else _checked_delay(label, value)}
        case "deadline_in" | "expires_in" | "deadline_at" | "expires_at":
            return _checked_limit(label, name, value)
        case "metadata":
            return _checked_metadata(label, value)
        case _:
            raise InvalidJob(f"{label} is unknown: {did_you_mean(name, EnqueueKeywords.__annotations__)}")


def _checked_moment(label: str, value: object) -> datetime | None:
    return None if value is None else checked_moment(label, value, error=InvalidJob)


def _checked_delay(label: str, value: object) -> timedelta:
    return checked_duration(label, value, zero=True, error=InvalidJob)


def _checked_limit(label: str, name: str, value: object) -> dict[str, Any]:
    """Return a deadline or an expiry, given as a time or as a duration."""
    if value is None:
        return {}
    key, _, kind = name.partition("_")
    return {
        key: checked_duration(label, value, error=InvalidJob)
        if kind == "in"
        else _checked_moment(label, value)
    }


def _checked_tags(label: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise refused(label, value, use="a list of strings", error=InvalidJob)
    tags = cast("Iterable[object]", value)
    return tuple(dict.fromkeys(checked_name(label, tag, what="tag") for tag in tags))


def _checked_metadata(label: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(label, value, use="a dict of plain JSON", error=InvalidJob)
    return {"metadata": value, "metadata_text": encode_json(value, label=label)}


def _checked_context(label: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise refused(label, value, use="a string that says why the job exists", error=InvalidJob)
    encode_json(value, label=label)  # refuses what no database can store
    return value


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "queue": checked_name,
    "priority": checked_priority,
    "unique": checked_unique,
    "schedule_at": _checked_moment,
    "tags": _checked_tags,
    "context": _checked_context,
}


def _constant(job: Any, name: str) -> Any:
    return getattr(type(job), name)


JobT_co = TypeVar("JobT_co", covariant=True)


@attrs.frozen
class JobWithOptions(AnyJob, Generic[JobT_co]):
    """Job value with its own options, for `enqueue` or `enqueue_many`; hooks around enqueues get a sequence of them."""

    job: JobT_co
    options: EnqueueOptions

    @property
    def name(self) -> str:
        """Name of the job."""
        return str(_constant(self.job, "NAME"))

    @property
    def queue(self) -> str:
        """Queue to which the job goes."""
        return str(_constant(self.job, "QUEUE") if self.options.queue is UNSET else self.options.queue)

    @property
    def priority(self) -> int:
        """Priority of the job; higher runs first."""
        return int(
            _constant(self.job, "PRIORITY") if self.options.priority is UNSET else self.options.priority
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the job."""
        return () if self.options.tags is UNSET else self.options.tags

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the job; empty if it has none."""
        return {} if self.options.metadata is UNSET else self.options.metadata

    @property
    def context(self) -> str | None:
        """Why the job exists; None if nothing was said."""
        return self.options.context

    if TYPE_CHECKING:

        def __jobrt_result__(self: JobWithOptions[Enqueueable[ResultT]]) -> ResultT: ...

    def with_options(self, **options: Unpack[EnqueueKeywords]) -> JobWithOptions[JobT_co]:
        """Return the job with these options added; they replace earlier values.

        Raises:
            InvalidJob: an option is unknown or invalid.

        """
        later = enqueue_options(type(self.job).__name__, options)
        return JobWithOptions(self.job, self.options.replaced_by(later))
