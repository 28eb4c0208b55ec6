"""The role of a storage for actions of operators."""

from typing import Protocol

from jobrt._core.actions import Action, NewAction, Subject


class ActionStore(Protocol):
    """Actions of operators, the newest `ACTIONS_KEPT` of them."""

    async def record(self, action: NewAction) -> None:
        """Add an action, at the time of the database's clock, and delete those that are not kept."""
        ...

    async def newest(
        self, *, limit: int, subject: Subject | None = None, name: str | None = None
    ) -> tuple[Action, ...]:
        """Return the newest actions, the newest first; those about a subject, and of these the ones of a name."""
        ...
