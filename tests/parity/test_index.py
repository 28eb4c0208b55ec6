"""``design/parity.md`` and ``design/hazards.md`` name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"P": "tests/parity", "C": "tests/conformance", "R": "tests/runtime"}


def rows(page: str) -> list[str]:
    """Return the rows of a page's tables."""
    lines = (ROOT / "design" / page).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| ---")]


@pytest.mark.parametrize("page", ["parity.md", "hazards.md"])
def test_every_test_that_the_table_names_is_there(page: str) -> None:
    """A row whose test was renamed or removed shows nothing."""
    tests = ROOT / "tests"
    there = {
        name for path in tests.rglob("test_*.py") for name in re.findall(r"def test_(\w+)", path.read_text())
    }
    lost = []
    for row in rows(page):
        shown = row.rstrip(" |").rpartition(" | ")[2]
        for file in re.findall(r"`((?:P|C|R|tests)/[\w/]+\.py)`", shown):
            folder, _, name = file.partition("/")
            if not (ROOT / FOLDERS.get(folder, folder) / name).exists():
                lost.append(file)
        words = re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)+_?", re.sub(r"`[^`]*`", "", shown))
        lost += [word for word in words if not any(word in name for name in there)]
    assert lost == []


def test_every_hazard_has_a_row_that_names_a_test() -> None:
    """There are thirty-seven; a sentence of one may have a row of its own."""
    cells = [row.strip("| ").split(" | ") for row in rows("hazards.md")]
    hazards = [(int(cell[0]), cell[-1]) for cell in cells if cell[0].isdigit()]
    numbers = [number for number, _ in hazards]
    assert sorted(set(numbers)) == list(range(1, 38))
    assert numbers == sorted(numbers)
    assert [
        shown for _, shown in hazards if not re.search(r"[a-z]_[a-z]", re.sub(r"`[^`]*`", "", shown))
    ] == []
