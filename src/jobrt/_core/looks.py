"""What a worker remembers of a limited queue between two claims, and when it looks for jobs without a key."""

from __future__ import annotations

from typing import Any, Final

import attrs

_KEY_AGAIN: Final = (1, 5, 25, 125, 600)
"""Seconds between two searches for jobs without a key; the last number from then on.

A transaction that enqueues may be older than the key of the queue, and commit later. A program may write rows itself.
"""

PAGE_AGAIN: Final = 0.1
"""Seconds between two pages of such a search, of some milliseconds each, while claims go on."""

HURRY_AGAIN: Final = 0.05
"""The same for the worker that has changed the setting, while most jobs have no key yet."""

FEW_KEYS: Final = 64
"""Keys up to which a claim looks at each, so that jobs are claimed in their exact order."""

MANY_KEYS: Final = 1000
"""Keys that one claim looks at, at most."""

WALK: Final = 200
"""Jobs in order that one claim looks at beyond twice the number that it may take, if there are many keys."""

MANY_PARKED: Final = 1000
"""Parked jobs that one claim under a rate looks at, at most."""

AGAIN: Final = 0.1
"""Seconds after which a claim goes on that has looked at as many keys, or parked jobs, as it may."""


@attrs.frozen
class Look:
    """Memory about one queue.

    ``path`` is the key's setting that was stored. ``place`` is where the search for jobs without a key goes on at
    ``search_at``, or None if a new one begins then. ``hurries``: this worker has changed the setting, so most jobs have
    no key yet. ``many``: there are more keys than `FEW_KEYS`. ``turn`` is the last key that was looked at, and
    ``served`` the last one of which a job was taken, in claims with parked jobs of this worker.
    """

    path: str | None = None
    place: Any = None
    search_at: float = 0.0
    searches: int = 0
    many: bool = False
    turn: str = ""
    served: str = ""
    hurries: bool = False

    def goes_on(self, now: float, *, place: Any) -> Look:
        """Return the memory after a page of a search that is not over: claims go on, and the next page comes later."""
        pause = HURRY_AGAIN if self.hurries else PAGE_AGAIN
        return attrs.evolve(self, place=place, search_at=now + pause)

    def found_all(self, now: float) -> Look:
        """Return the memory after a search that has come to its end."""
        pause = _KEY_AGAIN[min(self.searches, len(_KEY_AGAIN) - 1)]
        return attrs.evolve(
            self, place=None, search_at=now + pause, searches=self.searches + 1, hurries=False
        )

    @property
    def claim_in(self) -> float | None:
        """Return the seconds after which the next claim is to read a page, although no job is due. None: no claim."""
        return HURRY_AGAIN if self.hurries else None
