"""Code and commands in Markdown pages, and a runner that executes a page from top to bottom.

A page is a story. Its blocks run in order, in one folder, as a reader would run them:

* A Python block that begins with ``# name.py`` is saved to that file.
* Another Python block is executed. All of a page share their names. ``await`` may stand at the top level.
* Each ``$`` line of a console block is a command. What follows it is the expected output, where ``…`` is any text.
  An error of jobrt is the whole output, and then the status is 1.
  A command that ends with ``&`` stays in the background until the page ends. ``export`` sets a variable for the page.
* A comment that begins with ``<!-- run`` is Python too, which readers do not see. It can use ``page`` (the runner),
  ``nursery``, and ``stack``, an `AsyncExitStack` that is closed at the end.
* A ``python -m jobrt`` that ends by itself is run by a process forked from one that has imported jobrt. It differs from
  a new process in nothing but the half second that the import takes.
* Other blocks whose first line is ``# name.ext`` are saved to that file; all others are left alone.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from tests.support.process_state import own_state

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Block", "Command", "PageRunner", "blocks", "commands", "python_blocks"]

_BLOCK: Final = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$|^<!-- run\n(.*?)^-->$", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"# ([\w./-]+\.(?:py|toml|yml|yaml|ini|service))\n")
_SECONDS: Final = 60
_OF_A_PAGE: Final = ("JOBRT_URL", "JOBRT_APP")
"""Variables that a page sets itself, if it uses them."""
_HIDDEN: Final = "hidden"
_JOBRT: Final = re.compile(r"python -m jobrt ([^|&;<>$]*)")
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["jobrt.cli", "psycopg"])


@attrs.frozen
class Block:
    """Fenced block of a page, or a hidden one: its language, text, and the line on which it begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Name of the file to which the block is saved, if it has one."""
        found = _FILE.match(self.text)
        return found[1] if found else None


@attrs.frozen
class Command:
    """Command of a console block, and the output that the page shows."""

    line: str
    output: str

    @property
    def in_background(self) -> bool:
        """Whether the page goes on while it runs."""
        return self.line.endswith("&")


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in Markdown."""
    return [
        Block(
            found[1] if found[3] is None else _HIDDEN,
            found[3] or found[2] or "",
            page.count("\n", 0, found.start()) + 2,
        )
        for found in _BLOCK.finditer(page)
    ]


def python_blocks(page: str) -> list[str]:
    """Return the texts of the Python blocks."""
    return [block.text for block in blocks(page) if block.language == "python"]


def commands(text: str) -> list[Command]:
    """Return the commands of a console block; a backslash continues a line."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    found: list[Command] = []
    for part in parts:
        line, _, output = part.replace("\\\n", "").partition("\n")
        found.append(Command(line.strip(), output.strip()))
    return found


def matches(expected: str, actual: str) -> bool:
    """Return whether the output is the expected one; white space counts as one blank, ``…`` is any text."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split("…")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), " ".join(actual.split()), re.DOTALL) is not None


class PageRunner:
    """Runner of one page in a folder; `replace` is a text of the page with what stands for it in this run."""

    def __init__(self, page: Path, folder: Path, *, replace: dict[str, str] | None = None) -> None:
        self.page, self.folder, self.replaced = page, folder, replace or {}
        self.names: dict[str, Any] = {"__name__": "page"}
        bin_folder = str(Path(sys.executable).parent)
        self.variables = {
            **os.environ,
            "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
            "PIP_NO_INDEX": "1",  # what a page installs is there
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        self.background: list[subprocess.Popen[str]] = []

    async def run(self) -> None:
        """Run the page in its folder, from which it can import; an error names its line. Nothing outlives the page."""
        text = self.page.read_text(encoding="utf-8")
        for stands, value in self.replaced.items():
            text = text.replace(stands, value)
        with own_state(), _modules_of(self.folder):
            os.chdir(self.folder)
            for variables in (os.environ, self.variables):
                for name in _OF_A_PAGE:
                    variables.pop(name, None)
            try:
                async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
                    self.names |= {"page": self, "nursery": nursery, "stack": stack}
                    for block in blocks(text):
                        await self._run(block)
                    nursery.cancel_scope.cancel()
            finally:
                await self.stop_background()

    async def stop_background(self) -> None:
        """Stop the commands in the background, as Ctrl-C twice does, and wait until they have ended."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._end)

    async def _run(self, block: Block) -> None:
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if path.suffix == ".py":  # another test may have imported one of this name
                sys.modules.pop(path.stem, None)
                importlib.invalidate_caches()
        elif block.language in {"python", _HIDDEN}:
            await self._execute(block)
        elif block.language == "console":
            for command in commands(block.text):
                await self._command(command, block.line)

    async def _execute(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        awaited = eval(code, self.names)  # noqa: S307 - this repository's own text
        if inspect.iscoroutine(awaited):
            await awaited

    async def _command(self, command: Command, number: int) -> None:
        if command.line.startswith("export "):
            name, _, value = command.line.removeprefix("export ").partition("=")
            self.variables[name] = value.strip("'\"")
            os.environ[name] = self.variables[name]
            return
        options: dict[str, Any] = {"cwd": self.folder, "env": self.variables, "text": True, "shell": True}
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "executable": "/bin/bash"}
        if command.in_background:
            line = f"exec {command.line.removesuffix('&')}"
            process = subprocess.Popen(line, start_new_session=True, **options)  # noqa: ASYNC220 - outlives this call
            self.background.append(process)
            first = max(command.output.partition("\n")[0].split("…"), key=len).strip()
            if first:
                await trio.to_thread.run_sync(self._await_line, process, first)
            return
        status, output = await trio.to_thread.run_sync(self._finish, command.line, options)
        where = f"{self.page.name}:{number}: $ {command.line}"
        expected = command.output
        assert status == expected.startswith("jobrt: "), f"{where}\n{output}"  # 1, if it ends with an error
        if expected:
            assert matches(expected, output), f"{where}\nexpected:\n{expected}\nfound:\n{output}"

    def _finish(self, line: str, options: dict[str, Any]) -> tuple[int | None, str]:
        """Run a command to its end, and return its exit status and output."""
        found = _JOBRT.fullmatch(line)
        if found is None:
            done = subprocess.run(line, timeout=_SECONDS, check=False, **options)
            return done.returncode, done.stdout
        output = self.folder / ".output"
        arguments = (shlex.split(found[1]), self.folder, self.variables, output)
        process = _FORKS.Process(target=_run_jobrt, args=arguments)
        process.start()
        process.join(_SECONDS)
        status = process.exitcode
        process.kill()
        process.join()
        process.close()
        return status, output.read_text(encoding="utf-8")

    def _await_line(self, process: subprocess.Popen[str], first: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if first in line:
                return
        raise AssertionError(f"{self.page.name}: {process.args!r} ended without {first!r}")

    def _end(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)  # ends the grace period of a worker's jobs
        while self.background:
            process = self.background.pop()
            try:
                process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def _modules_of(folder: Path) -> Generator[None]:
    """Let modules be imported from the folder, and forget them at the end."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]


def _run_jobrt(arguments: list[str], folder: Path, variables: dict[str, str], output: Path) -> None:
    """Be the process of ``python -m jobrt``."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:], sys.path[0] = ["jobrt", *arguments], str(folder)
    from jobrt.cli import run

    run()
