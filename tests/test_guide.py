"""Tests of the guide: every code block and every command runs, and every public name is documented."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

import jobrt
from tests.support.pages import PageRunner, blocks, commands

pytestmark = pytest.mark.unmeasured

GUIDE = Path(__file__).parents[1] / "design" / "guide"
PAGES = sorted(path for path in GUIDE.rglob("*.md") if path.parent.name != "reference")
POSTGRES = "postgresql://shop:secret@localhost/shop"
"""What pages write for the URL of a PostgreSQL database."""


def has_code(page: Path) -> bool:
    """Return whether something of the page runs."""
    return any(block.language in {"python", "console"} for block in blocks(page.read_text(encoding="utf-8")))


RUNNABLE = [page for page in PAGES if has_code(page)]
WITH_POSTGRES = [page for page in RUNNABLE if POSTGRES in page.read_text(encoding="utf-8")]
WITHOUT = [page for page in RUNNABLE if page not in WITH_POSTGRES]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("page", WITHOUT, ids=lambda page: page.stem)
async def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    """Run from top to bottom, everything works and prints what the page shows."""
    parallel = pytest.importorskip("trio_parallel")
    with trio.fail_after(220):
        # Processes of earlier tests import from other folders.
        async with parallel.cache_scope():
            await PageRunner(page, tmp_path).run()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_POSTGRES, ids=lambda page: page.stem)
async def test_a_page_runs_with_postgres(page: Path, tmp_path: Path, new_postgres_url: str) -> None:
    """The same, for pages that use a PostgreSQL database."""
    with trio.fail_after(220):
        await PageRunner(page, tmp_path, replace={POSTGRES: new_postgres_url}).run()


def test_commands_are_in_console_blocks() -> None:
    """A command in another block would not run."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language != "console":
                assert not re.search(r"^(\$ |python -m jobrt|pip )", block.text, re.MULTILINE), page
            else:
                assert commands(block.text), f"{page.name}:{block.line}"


def test_files_of_a_page_are_python_or_settings() -> None:
    """A block of a language that nothing runs or reads is not a program."""
    languages = {
        "console",
        "hidden",
        "ini",
        "mermaid",
        "python",
        "text",
        "toml",
        "yaml",
        "{eval-rst}",
        "{toctree}",
    }
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            assert block.language in languages | {"{literalinclude}"}, f"{page.name}:{block.line}"


MODULES = ["", "aio", "backoff", "blocking", "dashboard", "errors", "events", "otel", "probes", "testing"]
SAME = {"aio.Handle"}
"""Names of a class that the reference has under another name."""


def objects(module_name: str) -> dict[str, Any]:
    """Return what a public module exports, other modules aside, by names without the prefix ``jobrt.``."""
    module = importlib.import_module(f"jobrt.{module_name}".rstrip("."))
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        f"{module_name}.{name}".lstrip("."): value
        for name, value in found.items()
        if not isinstance(value, ModuleType)
    }


def documented() -> set[str]:
    """Return the names that the directives of the reference describe, without the prefix ``jobrt.``."""
    found: set[str] = set()
    for page in sorted((GUIDE / "reference").glob("*.md")):
        current = "jobrt"
        text = page.read_text(encoding="utf-8")
        for directive, name, members in re.findall(
            r"^\.\. (auto\w+|currentmodule):: ([\w.]+).*\n( +:members:.*)?", text, re.MULTILINE
        ):
            if directive in {"automodule", "currentmodule"}:
                current = name
                exported = importlib.import_module(name).__all__ if members else ()
                found |= {f"{name}.{each}" for each in exported}
            else:
                found.add(name if name.startswith("jobrt.") else f"{current}.{name}")
    return {name.removeprefix("jobrt.").removeprefix("errors.") for name in found}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    """Every name that a program may import has a docstring, and is in the reference."""
    names = objects(module)
    defined = {
        name: value for name, value in names.items() if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert [name for name, value in defined.items() if not inspect.getdoc(value)] == []
    assert {name.removeprefix("errors.") for name in names} - documented() <= SAME


@pytest.mark.parametrize("name", ["Context", "ThreadContext", "ProcessContext", "AsyncioContext"])
def test_a_context_shows_what_its_reference_describes(name: str) -> None:
    """A context has no public methods for the runtime alone, which users would see in completions."""
    text = (GUIDE / "reference" / "jobs.md").read_text(encoding="utf-8")
    found = re.search(rf"autoclass:: {name}\(\)\n +:members: ((?:[\w, ]|\n {{13}})+)", text)
    assert found is not None
    described = set(re.findall(r"\w+", found[1]))
    shown = {member for member in dir(getattr(jobrt, name)) if not member.startswith("_")}
    refused = set() if name == "Context" else {"open_nursery", "receive", "sleep", "sleep_until"}
    assert shown == described | refused


def filters() -> set[str]:
    """Return the functions of `jobrt.where`."""
    return {
        name
        for name, value in vars(jobrt.where).items()
        if callable(value) and getattr(value, "__module__", "") == jobrt.where.__name__ and name[0].islower()
    } - {"canonical", "matches"}


def test_every_filter_is_in_the_reference() -> None:
    """`jobrt.where` has no filter that the reference lacks."""
    assert {f"where.{name}" for name in filters()} <= documented()


def test_every_command_is_described() -> None:
    """The help of each command, which the reference repeats, has more than a name."""
    from jobrt.cli import cli

    assert [name for name, command in cli.commands.items() if not command.help] == []
