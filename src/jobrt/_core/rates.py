"""Rates: how many attempts may start in a time, counted with a bucket of tokens.

A bucket holds at most ``burst`` tokens and gets ``count`` of them in each ``per`` seconds. A start takes one. All
numbers are integers, so no error adds up: a token is ``unit`` parts, and each microsecond adds ``gain`` parts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import attrs

from jobrt._core.arguments import checked_count, checked_duration, refused
from jobrt.errors import InvalidSetting

LONGEST_HOLD: Final = 3_600_000_000
"""Microseconds for which a job may hold others. A longer hold was made by a wrong clock, and does not count."""

_SHORTEST: Final = 0.000_001
_LONGEST: Final = 366 * 86_400.0
_LONG: Final = 100
_MOST: Final = 100_000
"""Largest burst: with the longest time, the parts of a full bucket are a number that the databases can store."""


def _count(_self: object, _field: object, value: int) -> None:
    checked_count("Rate.count", value, least=1)


def _burst(_self: object, _field: object, value: int) -> None:
    if checked_count("Rate.burst", value, least=1) > _MOST:
        raise refused("Rate.burst", value, use=f"an int from 1 to {_MOST}", error=InvalidSetting)


def _per(value: timedelta | float) -> float:
    seconds = checked_duration("Rate.per", value).total_seconds()
    if not _SHORTEST <= seconds <= _LONGEST:
        raise refused("Rate.per", value, use="a microsecond to a year", error=InvalidSetting)
    return seconds


AHEAD: Final = 150_000
"""Microseconds for which a claim may take tokens in advance. Each of its jobs starts when its token is there.

Without that a worker would have to claim each job at the time of its token, and a commit takes longer than that.
"""

SPARE: Final = AHEAD * 2 // 3
"""Microseconds for which tokens are still taken when the next claim comes.

So late may it be until a token is lost (with a burst of one). On a busy machine claims were 50 ms late.
"""


@attrs.frozen
class Rate:
    """How often attempts may start: in any time of t seconds at most ``burst + count * t / per``.

    Args:
        count: number of starts in each `per`.
        per: seconds, or a ``timedelta``.
        burst: number of starts that may be made at once after a quiet time.

    """

    count: int = attrs.field(validator=_count)
    per: float = attrs.field(default=1.0, kw_only=True, converter=_per)
    burst: int = attrs.field(default=1, kw_only=True, validator=_burst)

    @property
    def gain(self) -> int:
        """Return the parts that each microsecond adds."""
        return 1 if self._whole else self.count

    @property
    def unit(self) -> int:
        """Return the parts of a token."""
        micros = round(self.per * 1e6)
        return -(-micros // self.count) if self._whole else micros

    @property
    def _whole(self) -> bool:
        """Whether a token takes a whole number of microseconds: the time between two is rounded up, by 1 % at most.

        Times have no fractions of it. If a start was rounded up, the next would be too soon after it.
        """
        return round(self.per * 1e6) >= _LONG * self.count

    @property
    def full(self) -> int:
        """Return the parts of a full bucket."""
        return self.burst * self.unit


@attrs.frozen
class Bucket:
    """Tokens at a time: ``parts`` at ``at`` (microseconds); below zero if tokens were taken in advance.

    Nothing starts before ``held_until``, because a job has said so.
    """

    at: int
    parts: int
    unit: int
    held_until: int = 0

    def filled(self, rate: Rate, now: int) -> Bucket:
        """Return the bucket as it is now. A clock that was set back adds nothing, and counts from there on.

        It has no fewer tokens than claims in advance leave, whatever stands in its row.
        """
        parts = self.parts if self.unit == rate.unit else self.parts * rate.unit // max(self.unit, 1)
        least = -AHEAD * rate.gain - rate.unit
        parts = min(max(parts, least) + max(now - self.at, 0) * rate.gain, rate.full)
        return Bucket(now, parts, rate.unit, self.held_until)

    def take(self, tokens: int) -> Bucket:
        """Return the bucket without so many tokens."""
        return attrs.evolve(self, parts=self.parts - tokens * self.unit)

    def tokens(self, rate: Rate, *, ahead: int = 0) -> int:
        """Return how many tokens are there, or will be within `ahead` microseconds."""
        if is_held(self.held_until, self.at):
            return 0
        return max((self.parts + ahead * rate.gain) // self.unit, 0)

    def start(self, rate: Rate, number: int) -> int:
        """Return the microseconds until the start for which the `number`-th token from now on is taken."""
        return max(-(-(number * self.unit - self.parts) // rate.gain), 0)

    def wait(self, rate: Rate, *, tokens: int = 1, ahead: int = 0) -> int:
        """Return the microseconds until there are so many tokens, or will be within `ahead` microseconds."""
        missing = tokens * self.unit - self.parts - ahead * rate.gain
        hold = self.held_until - self.at if is_held(self.held_until, self.at) else 0
        return max(-(-missing // rate.gain), hold)

    def full_at(self, rate: Rate) -> int:
        """Return when the bucket is full again."""
        return self.at - (self.parts - rate.full) // rate.gain


FREE: Final = Bucket(0, _MOST, 1)
"""Bucket that is full for every rate: it has more parts than any allows, and is read as if a token were one part."""


def is_held(until: int, now: int) -> bool:
    """Return whether a hold that ends at `until` (microseconds, as `now`) is in force."""
    return now < until <= now + LONGEST_HOLD


def new_bucket(rate: Rate, now: int) -> Bucket:
    """Return a bucket that was never used: it is full."""
    return Bucket(now, rate.full, rate.unit)
