"""Medians of several rounds, and tables of them in Markdown."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Spread", "cell", "markdown", "spreads"]


@attrs.frozen
class Spread:
    """Median, lowest and highest of several figures."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of figures without NaN; NaN if there are no others."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan)
        return cls(statistics.median(known), min(known), max(known))

    def __str__(self) -> str:
        if math.isnan(self.median):
            return "-"
        if self.lowest == self.highest:
            return number(self.median)
        return f"{number(self.median)} ({number(self.lowest)}-{number(self.highest)})"


def spreads(rounds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return the spread of each figure over the rounds that have it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: Spread.of(figures[name] for figures in rounds if name in figures) for name in names}


def number(value: float) -> str:
    """Format a figure with its significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def cell(figures: Mapping[str, Spread], name: str) -> str:
    """Format a figure, or a dash if there is none."""
    return str(figures.get(name, "-"))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, with names aligned left and figures right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    formatted = [
        "| "
        + " | ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    ]
    rule = (
        "|"
        + "|".join(
            "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":"
            for column, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([formatted[0], rule, *formatted[1:]])
