"""Charts as numbers: the templates draw them as SVG.

A plot is 100 high and 10 wide for each slot. The browser stretches it, but not the texts, which stand beside it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from jobrt._core.stats import Numbers
from jobrt.dashboard.history import Counted

WIDTH: Final = 10
HEIGHT: Final = 100
_FIRST: Final = 0.001
_GROWTH: Final = 4.0
"""Class ``i`` of a histogram holds times of less than 0.001 * 4**i seconds; see `Bucket`."""
_MEDIAN: Final = 0.5
_LATE: Final = 0.95
_LABELS: Final = {"hour": (4, "%H:%M"), "day": (4, "%H:%M"), "week": (7, "%a %d")}
"""Labels below a plot, and their format."""


@attrs.frozen
class Bar:
    """Part of a slot's column; ``y`` is its upper end."""

    kind: str
    x: float
    y: float
    height: float


@attrs.frozen
class Line:
    """A line through the slots, as the path of SVG."""

    kind: str
    path: str


@attrs.frozen(kw_only=True)
class Chart:
    """A plot and the texts around it: the labels of its height, from the top, and a tip for each slot."""

    title: str
    summary: str
    legend: Sequence[tuple[str, str]]
    scale: Sequence[str]
    tips: Sequence[str]
    bars: Sequence[Bar] = ()
    lines: Sequence[Line] = ()


@attrs.frozen
class Row:
    """Numbers of a slot, or of a queue or job, in words."""

    label: str
    total: Numbers
    median_wait: float | None
    late_wait: float | None
    median_run: float | None
    late_run: float | None
    trend: Sequence[Bar] = ()


def quantile(histogram: Sequence[int], part: float) -> float | None:
    """Return the estimated time in seconds that a part of the jobs did not exceed; None without jobs."""
    needed, seen = part * sum(histogram), 0
    for index, count in enumerate(histogram):
        if count and seen + count >= needed:
            low = _FIRST * _GROWTH ** (index - 1)
            return float(low * _GROWTH ** ((needed - seen) / count))
        seen += count
    return None


def row_of(label: str, numbers: Numbers, trend: Sequence[Bar] = ()) -> Row:
    """Return the numbers of a slot, a queue or a job."""
    waits, runs = numbers.waits, numbers.histogram
    return Row(
        label,
        numbers,
        median_wait=quantile(waits, _MEDIAN),
        late_wait=quantile(waits, _LATE),
        median_run=quantile(runs, _MEDIAN),
        late_run=quantile(runs, _LATE),
        trend=trend,
    )


def charts_of(slots: Sequence[Numbers]) -> list[Chart]:
    """Return the four charts of a queue, a job or all."""
    return [
        _bars(slots, "Throughput", (("completed", "completed"), ("cancelled", "cancelled"))),
        _bars(slots, "Failures", (("failed", "failed attempts"), ("dead", "discarded jobs"))),
        _times(slots, "Wait", lambda slot: slot.waits),
        _times(slots, "Run time", lambda slot: slot.histogram),
    ]


def throughput(slots: Sequence[Numbers]) -> Chart:
    """Return the chart of the overview."""
    return _bars(slots, "Ended", (("completed", "completed"), ("failed", "failed attempts")))


def trend_of(slots: Sequence[Numbers]) -> list[Bar]:
    """Return small columns of what was completed and what failed."""
    kinds = ("completed", "failed")
    most = max(_sum(slot, kinds) for slot in slots)
    return _stacked(slots, kinds, most or 1)


def _sum(slot: Numbers, kinds: Iterable[str]) -> int:
    return sum(getattr(slot, kind) for kind in kinds)


def _bars(slots: Sequence[Numbers], title: str, legend: Sequence[tuple[str, str]]) -> Chart:
    kinds = [kind for kind, _ in legend]
    most = _round_up(max(_sum(slot, kinds) for slot in slots))
    words = [f"{sum(getattr(slot, kind) for slot in slots):,} {called}" for kind, called in legend]
    return Chart(
        title=title,
        summary=", ".join(words),
        legend=legend,
        scale=[f"{most:,}", f"{most // 2:,}", "0"],
        tips=[", ".join(f"{getattr(slot, kind):,} {called}" for kind, called in legend) for slot in slots],
        bars=_stacked(slots, kinds, most),
    )


def _stacked(slots: Sequence[Numbers], kinds: Iterable[str], most: int) -> list[Bar]:
    bars: list[Bar] = []
    for index, slot in enumerate(slots):
        top = float(HEIGHT)
        for kind in kinds:
            count = getattr(slot, kind)
            height = max(count * HEIGHT / most, 1.0) if count else 0.0  # one failure in a million is seen
            top = max(top - height, 0.0)
            if count:
                bars.append(Bar(kind, index * WIDTH, round(top, 2), round(height, 2)))
    return bars


def _round_up(count: int) -> int:
    """Return an even round number that is not less."""
    size = 1
    while True:
        for step in (2, 4, 10):
            if count <= step * size:
                return step * size
        size *= 10


def _times(slots: Sequence[Numbers], title: str, histogram: Callable[[Numbers], Sequence[int]]) -> Chart:
    parts = {"median": _MEDIAN, "late": _LATE}
    found = {kind: [quantile(histogram(slot), part) for slot in slots] for kind, part in parts.items()}
    known = [seconds for times in found.values() for seconds in times if seconds is not None]
    low = math.floor(math.log10(min(known, default=_FIRST)))
    high = max(math.ceil(math.log10(max(known, default=1.0))), low + 1)
    total = [sum(counts) for counts in zip(*map(histogram, slots), strict=True)]
    typical, rare = (in_seconds(quantile(total, part)) for part in parts.values())
    return Chart(
        title=title,
        summary=f"median {typical}, 95 % within {rare}",
        legend=[("median", "median"), ("late", "95th percentile")],
        scale=[in_seconds(10.0**power) for power in range(high, low - 1, -1)],
        tips=[
            f"{in_seconds(median)}, 95 % within {in_seconds(late)}"
            for median, late in zip(*found.values(), strict=True)
        ],
        lines=[Line(kind, _path(times, low=low, high=high)) for kind, times in found.items()],
    )


def _path(times: Sequence[float | None], *, low: int, high: int) -> str:
    """Return the path through the middles of the slots, with gaps where nothing is known; a dash for a lone slot."""
    steps: list[str] = []
    for index, seconds in enumerate(times):
        if seconds is None:
            continue
        place = (math.log10(seconds) - low) / (high - low)
        x, y = (index + 0.5) * WIDTH, round(HEIGHT * (1 - place), 2)
        if index > 0 and times[index - 1] is not None:
            steps.append(f"L{x:g} {y:g}")
        elif index + 1 < len(times) and times[index + 1] is not None:
            steps.append(f"M{x:g} {y:g}")
        else:
            steps.append(f"M{x - WIDTH * 0.4:g} {y:g}h{WIDTH * 0.8:g}")
    return "".join(steps)


def in_seconds(seconds: float | None) -> str:
    """Return an estimated time with the precision that it has: ``35 ms``, ``1.2 s``, ``20 min``."""
    if seconds is None:
        return "-"
    for size, unit in ((3600, "h"), (60, "min"), (1, "s"), (0.001, "ms")):
        if seconds >= size * (2 if size >= 60 else 0.9995):  # noqa: PLR2004 - 100 s rather than 1.7 min
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def labels_of(counted: Counted) -> list[str]:
    """Return the labels below a plot, each at the beginning of an equal part of it."""
    number, form = _LABELS[counted.period.name]
    every = counted.period.slots // number
    return [f"{start:{form}}" for start in counted.starts[::every]]
