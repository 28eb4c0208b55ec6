"""Targets, as ratios within a run, and whether they were reached."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import attrs
from tests.bench.measuring.tables import Spread, markdown, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["TARGETS", "Target", "Verdict", "judge", "report"]

Rounds: TypeAlias = "Mapping[str, Sequence[Mapping[str, float]]]"
"""Figures of each round, by contestant."""

OURS = "jobrt default"


@attrs.frozen
class Target:
    """Limit of a figure of jobrt, or of its ratio to a peer's figure."""

    what: str
    figure: str
    least: float = -math.inf
    most: float = math.inf
    rival: str | None = "best"
    """The peer to compare with: a name, ``"best"`` of all peers and settings, or None for no peer."""

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"at least {self.least:g}" if self.least > -math.inf else f"at most {self.most:g}"


TARGETS = (
    Target("drain / best peer's", "drain /s", least=2.5),
    Target("bulk enqueue / best peer's", "bulk /s", least=1.5),
    Target("one by one / pgqueuer's", "one /s", least=1.3, rival="pgqueuer"),
    Target("idle start, p50 from the call / best peer's", "call p50 ms", most=1.0),
    Target("idle start, p99 from the call / best peer's", "call p99 ms", most=1.0),
    Target("idle start, p50 from the commit / best peer's", "commit p50 ms", most=1.0),
    Target("idle start, p99 from the commit / best peer's", "commit p99 ms", most=1.0),
    Target("commits per job", "commits", most=0.02, rival=None),
    Target("bytes of WAL per job", "WAL B", most=1500, rival=None),
    Target("peak memory in MiB", "peak MiB", most=70, rival=None),
)
"""Targets of jobrt with its defaults, compared with peers at their best settings."""


@attrs.frozen
class Verdict:
    """A target and its measured value, which is NaN if it was not measured."""

    target: Target
    value: Spread
    rival: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median reached the target; None if it was not measured."""
        if math.isnan(self.value.median):
            return None
        return self.target.least <= self.value.median <= self.target.most


def judge(rounds: Rounds, targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Return the verdicts on a run.

    A ratio is between figures of the same round, which were measured close to each other. The median of all rounds
    counts.
    """
    return [_judge(rounds, target) for target in targets]


def _judge(rounds: Rounds, target: Target) -> Verdict:
    ours = _figures(rounds.get(OURS, ()), target.figure)
    if target.rival is None:
        return Verdict(target, Spread.of(ours))
    rivals = {
        name: _figures(measured, target.figure)
        for name, measured in rounds.items()
        if name != OURS and (target.rival == "best" or name.split(" ")[0] == target.rival)
    }
    medians = {name: Spread.of(figures).median for name, figures in rivals.items()}
    known = {
        name: median for name, median in medians.items() if median > 0
    }  # neither NaN nor below the resolution of the clock
    if not known:
        return Verdict(target, Spread.of(()))
    best = (max if target.least > -math.inf else min)(known, key=known.__getitem__)
    pairs = zip(ours, rivals[best], strict=False)
    return Verdict(target, Spread.of(our / their for our, their in pairs if their), best)


def _figures(measured: Sequence[Mapping[str, float]], figure: str) -> list[float]:
    return [figures.get(figure, math.nan) for figures in measured]


def report(verdicts: Iterable[Verdict]) -> str:
    """Return a table of verdicts."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    rows = [
        (
            verdict.target.what,
            verdict.rival or "-",
            str(verdict.value),
            verdict.target.bound,
            words[verdict.met],
        )
        for verdict in verdicts
    ]
    return markdown(("target", "rival", "reached", "needed", "verdict"), rows)


def flat(what: str, *, base: Spread, now: Spread, most: float) -> tuple[str, str, str, str, str]:
    """Return a row about the growth of a cost, which must be at most `most` times the base."""
    ratio = now.median / base.median if base.median else math.nan
    verdict = "not measured" if math.isnan(ratio) else "met" if ratio <= most else "MISSED"
    return (what, number(base.median), str(now), f"at most {most:g} x", f"{ratio:.2f} x, {verdict}")
