"""Tests named in ``design/parity.md`` and ``design/hazards.md`` exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"P": "tests/parity", "C": "tests/conformance", "R": "tests/runtime"}


def rows(page: str) -> list[str]:
    """Return the rows of the tables of a page."""
    lines = (ROOT / "design" / page).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| ---")]


@pytest.mark.parametrize("page", ["parity.md", "hazards.md"])
def test_every_named_test_exists(page: str) -> None:
    """Each table names only files and tests that exist."""
    tests = ROOT / "tests"
    existing = {
        name for path in tests.rglob("test_*.py") for name in re.findall(r"def test_(\w+)", path.read_text())
    }
    missing = []
    for row in rows(page):
        cell = row.rstrip(" |").rpartition(" | ")[2]
        for file in re.findall(r"`((?:P|C|R|tests)/[\w/]+\.py)`", cell):
            folder, _, name = file.partition("/")
            if not (ROOT / FOLDERS.get(folder, folder) / name).exists():
                missing.append(file)
        words = re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)+_?", re.sub(r"`[^`]*`", "", cell))
        missing += [word for word in words if not any(word in name for name in existing)]
    assert missing == []


def test_every_hazard_names_a_test() -> None:
    """Each of the thirty-seven hazards has a row that names a test."""
    cells = [row.strip("| ").split(" | ") for row in rows("hazards.md")]
    hazards = [(int(row[0]), row[-1]) for row in cells if row[0].isdigit()]
    numbers = [number for number, _ in hazards]
    assert sorted(set(numbers)) == list(range(1, 38))
    assert numbers == sorted(numbers)
    assert [cell for _, cell in hazards if not re.search(r"[a-z]_[a-z]", re.sub(r"`[^`]*`", "", cell))] == []
