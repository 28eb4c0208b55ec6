"""Id under which a worker claims jobs, and whether its lease is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define(eq=False)
class Identity:
    """Id of a worker, a new one for each registration; the heartbeat writes it, others read it."""

    make: Callable[[], str]
    id: str = ""
    trusted: bool = False
    """Whether the storage knows the id and its lease has not run out."""

    def renew(self) -> str:
        """Become somebody new: after a lost lease the old id's jobs belong to whoever rescues them."""
        self.id, self.trusted = self.make(), False
        return self.id

    def resign(self) -> None:
        """Be nobody from now on: the heartbeat has ended."""
        self.trusted = False

    @property
    def claimant(self) -> str | None:
        """Return the id to claim jobs under; None while others would take them for a dead worker's."""
        return self.id if self.trusted else None
