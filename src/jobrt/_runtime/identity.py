"""Id under which a worker claims jobs, and whether its lease is trusted."""

from collections.abc import Callable

import attrs


@attrs.define(eq=False)
class Identity:
    """Id of a worker, a new one for each registration; the heartbeat writes it, others read it."""

    make: Callable[[], str]
    id: str = ""
    trusted: bool = False
    """Whether the storage knows the id and its lease has not expired."""

    def renew(self) -> str:
        """Take a new id: after a lost lease, the jobs of the old id belong to the worker that rescued them."""
        self.id, self.trusted = self.make(), False
        return self.id

    def resign(self) -> None:
        """Stop claiming, because the heartbeat has ended."""
        self.trusted = False

    @property
    def claimant(self) -> str | None:
        """Return the id to claim jobs under; None while the lease is not trusted."""
        return self.id if self.trusted else None
