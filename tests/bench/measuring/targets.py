"""What must be reached, as ratios within one run, and whether it was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import attrs
from tests.bench.measuring.tables import Spread, markdown, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["TARGETS", "Target", "Verdict", "judge", "report"]

Rounds: TypeAlias = "Mapping[str, Sequence[Mapping[str, float]]]"
"""By the name of the contestant: what each round measured."""

OURS = "jobrt default"


@attrs.frozen
class Target:
    """A figure of jobrt's that must be at least or at most something: itself, or as a multiple of a peer's."""

    what: str
    figure: str
    least: float = -math.inf
    most: float = math.inf
    rival: str | None = "best"
    """The best of all peers and settings, one peer, or None: the figure counts by itself."""

    @property
    def bound(self) -> str:
        """Return what must be reached, in words."""
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
"""jobrt at its defaults against peers at whatever setting suits them best."""


@attrs.frozen
class Verdict:
    """A target and what was reached; nan if it was not measured."""

    target: Target
    value: Spread
    rival: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the median reached it, None if there is none."""
        if math.isnan(self.value.median):
            return None
        return self.target.least <= self.value.median <= self.target.most


def judge(rounds: Rounds, targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Judge a run.

    A ratio is that of two figures of the same round, which were measured close to each other; the median of the
    rounds' ratios counts.
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
    }  # neither nan nor below the clock
    if not known:
        return Verdict(target, Spread.of(()))
    best = (max if target.least > -math.inf else min)(known, key=known.__getitem__)
    pairs = zip(ours, rivals[best], strict=False)
    return Verdict(target, Spread.of(our / their for our, their in pairs if their), best)


def _figures(measured: Sequence[Mapping[str, float]], figure: str) -> list[float]:
    return [one.get(figure, math.nan) for one in measured]


def report(verdicts: Iterable[Verdict]) -> str:
    """Return a table of verdicts."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    rows = [
        (one.target.what, one.rival or "-", str(one.value), one.target.bound, words[one.met])
        for one in verdicts
    ]
    return markdown(("must reach", "rival", "reached", "needed", "verdict"), rows)


def flat(what: str, *, base: Spread, now: Spread, most: float) -> tuple[str, str, str, str, str]:
    """Return a row that says whether a cost has grown no more than `most` times."""
    ratio = now.median / base.median if base.median else math.nan
    verdict = "not measured" if math.isnan(ratio) else "met" if ratio <= most else "MISSED"
    return (what, number(base.median), str(now), f"at most {most:g} x", f"{ratio:.2f} x, {verdict}")
