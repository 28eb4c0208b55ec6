"""What a client remembers of a queue in which so many jobs of other names wait that no claim can look at all of them.

A claim looks at a bounded number of due jobs. Where that is not enough, its client claims in two ways from then on: new
jobs, from where the last claims ended, and older ones by a *sweep*, which goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from jobrt._core.job import Outcome
from jobrt._core.states import Transition

LOOK: Final = 10_000
"""Due jobs that one claim looks at without claiming them, at most."""

SOON: Final = 0.1
"""Seconds between two looks of the first sweep that find nothing."""

SELDOM: Final = 2.0
"""The same in later sweeps: for jobs that went back, or that became due below the place of the new ones."""


@attrs.frozen
class Sweep:
    """Memory of one client about a queue and a set of names.

    ``place`` is where the sweep goes on at ``next_at``, in seconds; None is the beginning. ``hurries``: no sweep has
    come to its end yet, so older jobs may be waiting that nobody has looked at. ``old_first``: the next claim looks at
    the older jobs first. They take turns with the new ones, so that neither can keep the others waiting.
    """

    place: Any = None
    next_at: float = 0.0
    hurries: bool = True
    old_first: bool = True

    def again(self) -> Sweep:
        """Return the memory after jobs have gone back, wherever their places are."""
        return attrs.evolve(self, place=None, next_at=0.0, hurries=True)

    def turned(self) -> Sweep:
        """Return the memory for the next claim, which looks at the others first."""
        return attrs.evolve(self, old_first=not self.old_first)

    def after(self, now: float, *, place: Any, in_vain: bool) -> Sweep | None:
        """Return the memory after a look that ended at a place, or at the end of the queue if that is None.

        `in_vain` says whether the look was as long as it may be, and found no job. None: the whole queue is within one
        look.
        """
        if place is None:
            return None if self.place is None else Sweep(None, now + SELDOM, hurries=False)
        pause = SOON if self.hurries else SELDOM
        return attrs.evolve(self, place=place, next_at=now + pause if in_vain else now)


def gave_back(outcomes: Iterable[Outcome]) -> bool:
    """Return whether jobs have gone back with their due times: a sweep may have passed their places."""
    return any(outcome.event is Transition.GIVE_BACK for outcome in outcomes)
