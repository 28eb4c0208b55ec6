"""Put something of a test's own in front of every method of a storage, role by role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ROLES", "Replaced", "RoleProxy", "call_name"]

ROLES = (
    "schema",
    "jobs",
    "attempts",
    "scopes",
    "workers",
    "queues",
    "crons",
    "streams",
    "actions",
    "health",
    "wakes",
)

_EVERYDAY = frozenset({"all", "delete", "enqueue", "fire", "members", "open", "put", "set", "sleep"})
"""Methods that more than one role has, or that say nothing without it."""


def call_name(role: str, method: str) -> str:
    """Return what tests call a method: ``exchange``, but ``crons.set``."""
    return f"{role}.{method}" if method in _EVERYDAY and role != "jobs" else method


@attrs.frozen
class RoleProxy:
    """One role of a storage, with ``wrap(name, method)`` in place of each method."""

    role: str
    real: Any
    wrap: Callable[[str, Any], Any]

    def __getattr__(self, method: str) -> Any:
        """Return what stands in place of the method."""
        return self.wrap(call_name(self.role, method), getattr(self.real, method))


class Replaced:
    """A storage with other objects for some of its roles."""

    def __init__(self, real: Any, **roles: Any) -> None:
        self._real = real
        self._roles = roles

    def __getattr__(self, name: str) -> Any:
        """Return a role: the given one, or the storage's own."""
        return self._roles[name] if name in self._roles else getattr(self._real, name)
