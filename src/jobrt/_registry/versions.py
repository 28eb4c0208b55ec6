"""Versions of a job class: which stored payloads it can read, and how (``design/changing_code.md``)."""

import inspect
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import attrs

from jobrt._core.arguments import checked_names, is_int, refused
from jobrt._json import read_json
from jobrt._payload.annotations import signature
from jobrt._payload.payload import Payload
from jobrt.errors import InvalidJob, UndecodablePayload

Upgrade: TypeAlias = Callable[[dict[str, Any], int], dict[str, Any]]
"""Function that turns the fields of a payload of an older version into those of today's."""

_TOO_MANY: Final = 1 << 15
"""Versions are stored in a small column."""


@attrs.frozen
class Versions:
    """What a job class says about payloads of other versions of its code.

    ``aliases`` are earlier names, the oldest first. ``removed`` are fields that old payloads may still have.
    ``upgrade`` is None if old payloads differ in no other way.
    """

    aliases: tuple[str, ...] = ()
    version: int = 1
    removed: frozenset[str] = frozenset()
    upgrade: Upgrade | None = None
    plain: bool = attrs.field(init=False, repr=False)
    """Whether every payload that a claim returns is decoded as it is stored."""
    stored: int | None = attrs.field(init=False, repr=False)
    """The version as it is stored with new jobs: None for the first one."""

    @plain.default  # pyright: ignore[reportAttributeAccessIssue, reportUntypedFunctionDecorator, reportUnknownMemberType]
    def _plain(self) -> bool:
        return self.version == 1 and not self.removed

    @stored.default  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue, reportUntypedFunctionDecorator, reportUnknownMemberType]
    def _stored(self) -> int | None:
        return None if self.version == 1 else self.version


def check_removed(owner: str, versions: Versions, payload: Payload) -> None:
    """Raise `InvalidJob` if a removed field is a field of the class."""
    both = sorted(versions.removed & {field.name for field in payload.fields})
    if both:
        raise InvalidJob(
            f"{owner}.REMOVED has {both[0]!r}, but the class has this field: remove it from REMOVED, or the field"
        )


def shape_of(payload: Payload, versions: Versions) -> int:
    """Return a number for what the class can read: 32 bits that change with its fields, `VERSION` and `REMOVED`."""
    text = json.dumps([payload.structure, versions.version, sorted(versions.removed)])
    return zlib.crc32(text.encode())


def fits_of(definitions: Mapping[str, Any]) -> str:
    """Return `Demand.fits` for job definitions by name."""
    fits = {name: [definition.versions.version, definition.shape] for name, definition in definitions.items()}
    return json.dumps(fits, separators=(",", ":"))


def read_stored(args: str | Mapping[str, Any], version: int, *, payload: Payload, versions: Versions) -> Any:
    """Return the job value of a payload that was stored with `version`.

    Raises:
        UndecodablePayload: it does not fit the class. Its ``problem`` is ``"fields"`` if the class is too old for it.

    """
    if version > versions.version:
        raise UndecodablePayload(
            f"{payload.label}: the payload has version {version}, and the class has VERSION {versions.version}",
            "fields",
        )
    fields = _object(args)
    if fields is None:
        return payload.decode(args)  # raises the error that names what is wrong
    if version < versions.version and versions.upgrade is not None:
        fields = _upgraded(fields, version, label=payload.label, upgrade=versions.upgrade)
    return payload.decode({name: value for name, value in fields.items() if name not in versions.removed})


def _object(args: str | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of a payload; None if it is not a JSON object."""
    if not isinstance(args, str):
        return dict(args)
    try:
        value = read_json(args)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _upgraded(fields: dict[str, Any], version: int, *, label: str, upgrade: Upgrade) -> dict[str, Any]:
    what = f"{label}.upgrade of a payload of version {version}"
    try:
        value: object = upgrade(fields, version)
    except Exception as error:  # it is code of the application
        raise UndecodablePayload(f"{what}: {type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise UndecodablePayload(f"{what}: it returned a {type(value).__name__}: return a dict of the fields")
    return value  # pyright: ignore[reportUnknownVariableType] - decoding checks names and values


def checked_versions(owner: str, cls: type, *, name: str) -> Versions:
    """Return what a job class says in ``ALIASES``, ``VERSION``, ``REMOVED`` and ``upgrade``."""
    own: Any = vars(cls)
    known: Any = cls
    aliases = checked_names(f"{owner}.ALIASES", own.get("ALIASES", ()), error=InvalidJob)
    if name in aliases:
        raise InvalidJob(f"{owner}.ALIASES has {name!r}, the name of the job itself: use earlier names only")
    version = _checked_version(f"{owner}.VERSION", known.VERSION)
    removed = checked_names(f"{owner}.REMOVED", known.REMOVED, error=InvalidJob)
    return Versions(aliases, version, frozenset(removed), _checked_upgrade(owner, cls, version=version))


def _checked_version(label: str, value: object) -> int:
    if is_int(value) and 1 <= cast("int", value) < _TOO_MANY:
        return cast("int", value)
    raise refused(
        label, value, use=f"an int from 1 to {_TOO_MANY - 1}, one more with each change", error=InvalidJob
    )


def _checked_upgrade(owner: str, cls: type, *, version: int) -> Upgrade | None:
    """Return the class method `upgrade`. Without ``VERSION``, anything else may have that name."""
    found = inspect.getattr_static(cls, "upgrade", None)
    if version == 1:
        if isinstance(found, classmethod) and list(signature(found.__func__).parameters)[1:] == [
            "args",
            "version",
        ]:
            raise InvalidJob(
                f"{owner}.upgrade is never called: set VERSION = 2, and one more with each change"
            )
        return None
    if isinstance(found, classmethod):
        return cast("Upgrade", found.__get__(None, cls))
    if inspect.isfunction(found):
        raise InvalidJob(
            f"{owner}.upgrade must be a class method: @classmethod def upgrade(cls, args, version)"
        )
    return None
