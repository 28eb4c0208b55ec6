"""The map in ``design/house.md`` is the tree, and the pages of ``design/`` can be read."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

import jobrt

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "design").rglob("*.md"))
SOURCE = Path(str(files(jobrt)))
LONGEST_LINE = 100


def drawn() -> dict[str, set[str]]:
    """Return the rooms of the map, with the names of their modules; "" is the package itself."""
    text = (ROOT / "design" / "house.md").read_text(encoding="utf-8")
    block = text.split("```")[1]
    rooms: dict[str, set[str]] = {}
    room = ""
    for line in filter(str.strip, block.splitlines()):
        name, _, modules = line.partition(" ")
        room = name.rstrip("/").removesuffix("jobrt") if name else room
        rooms.setdefault(room, set()).update(re.findall(r"\w+", modules))
    return rooms


def built() -> dict[str, set[str]]:
    """Return the packages of the source with the names of their modules."""
    rooms: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if path.name != "__init__.py":
            rooms.setdefault(path.relative_to(SOURCE).parent.as_posix().removeprefix("."), set()).add(
                path.stem
            )
    return rooms


def test_the_map_is_the_tree() -> None:
    """Every package and every module stands on it, and nothing else."""
    assert drawn() == built()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_can_be_read(page: Path) -> None:
    """No line has more than a hundred characters, tables aside."""
    lines = page.read_text(encoding="utf-8").splitlines()
    wide = [line for line in lines if len(line) > LONGEST_LINE and not line.lstrip().startswith("|")]
    assert wide == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_name_files_that_exist(page: Path) -> None:
    """A path in backquotes that begins with a folder of the project or the package leads somewhere."""
    paths = re.findall(
        r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|sql|html|css|js))`", page.read_text(encoding="utf-8")
    )
    bases = [base for base in (ROOT, SOURCE) for path in paths if (base / path.split("/")[0]).is_dir()]
    lost = [
        path
        for path in paths
        if any((base / path.split("/")[0]).is_dir() for base in bases)
        and not any((base / path).exists() for base in bases)
    ]
    assert lost == []
