"""``design/parity.md`` names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_table_names_is_there() -> None:
    """A row whose test was renamed or removed shows nothing."""
    tests = ROOT / "tests"
    there = {
        name for path in tests.rglob("test_*.py") for name in re.findall(r"def test_(\w+)", path.read_text())
    }
    lost = []
    for row in (ROOT / "design" / "parity.md").read_text().splitlines():
        if not row.startswith("| ") or row.startswith("| ---"):
            continue
        shown = row.rstrip(" |").rpartition(" | ")[2]
        for file in re.findall(r"`((?:P|C|R|tests)/[\w/]+\.py)`", shown):
            path = file.replace("P/", "tests/parity/").replace("C/", "tests/conformance/")
            if not (ROOT / path.replace("R/", "tests/runtime/")).exists():
                lost.append(file)
        words = re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)+_?", re.sub(r"`[^`]*`", "", shown))
        lost += [word for word in words if not any(word in name for name in there)]
    assert lost == []
