"""Tests of the code and the commands in README.md."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import drain, open_app
from tests.support.pages import python_blocks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets() -> list[str]:
    """Return the Python code blocks of the README."""
    return python_blocks(README)


@pytest.mark.process
def test_the_hello_world_runs_as_it_stands(tmp_path: Path) -> None:
    """Saved to a file and run, the first code block prints the result of the job."""
    program = tmp_path / "hello.py"
    program.write_text(snippets()[0], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "'Hello' went to a@example.com\n"


ENDS = {
    'return {"any"': ("completed", "{'any': 'JSON'}"),
    "return jobrt.Snooze": ("scheduled", "None"),
    "return jobrt.Cancel": ("cancelled", "None"),
    "return jobrt.Discard": ("discarded", "None"),
    "return jobrt.After": ("scheduled", "None"),
    "raise OSError": ("retryable", "None"),
}
"""First words of the lines in "What a job can return", with the resulting state and result."""


@pytest.mark.parametrize(
    "line", snippets()[1].splitlines(), ids=lambda line: line.split("(")[0].split("{")[0]
)
async def test_a_job_may_do_what_it_says(autojump_clock: MockClock, line: str) -> None:
    """Each line, as the body of `run`, has the effect that its comment describes."""
    (expected,) = [end for start, end in ENDS.items() if line.startswith(start)]
    names: dict[str, Any] = {"jobrt": jobrt}
    exec(f"async def run(self, ctx):\n    {line}", names)  # noqa: S102 - this repository's own text
    job_class = type("Any", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    child_class = type("Child", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    async with open_app(jobs=[job_class, child_class]) as (app, jobs):
        names["children"] = [await jobs.enqueue(child_class(), schedule_in=3600)]
        handle = await jobs.enqueue(job_class())
        await drain(app)
        record = await jobs.get(handle.id)
    assert (str(record.state), str(record.result)) == expected


async def test_a_plain_program_enqueues_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last code block enqueues the job of the first, and a worker runs it."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "hello"}
    exec(snippets()[0], names)  # noqa: S102 - this repository's own text
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(names["app"].run_worker)
            await trio.to_thread.run_sync(exec, snippets()[-1], names)
            await worker.stop()
    assert capsys.readouterr().out == "'Hello' went to a@example.com\n"


async def test_hooks_work_as_they_stand(autojump_clock: MockClock) -> None:
    """The code block about hooks surrounds the jobs of an app."""
    measured: list[str] = []

    @contextlib.contextmanager
    def stopwatch(name: str) -> Iterator[None]:
        yield
        measured.append(name)

    (snippet,) = (text for text in snippets() if "around_attempt" in text)
    job_class = type("Quick", (jobrt.Job,), {"run": _quick, "__module__": __name__})
    async with open_app(jobs=[job_class]) as (app, jobs):
        exec(snippet, {"app": app, "jobrt": jobrt, "stopwatch": stopwatch, "HOST": "here"})  # noqa: S102 - this repository's own text
        handle = await jobs.enqueue(job_class())
        await drain(app)
        assert (await jobs.get(handle.id)).metadata == {"host": "here"}
    assert measured == ["Quick"]


async def _quick(_job: Any, _ctx: Any) -> None: ...


PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def commands() -> list[list[str]]:
    """Return the arguments of each `python -m jobrt` line. The text after two spaces is an explanation."""
    lines = [line for line in README.splitlines() if line.startswith("python -m jobrt")]
    return [shlex.split(re.split(r"\s{2,}", line)[0])[3:] for line in lines]


def command_of(arguments: list[str]) -> str:
    """Return the name of the command in its arguments."""
    return next(argument for argument in arguments if not argument.startswith(("-", "shop", "sqlite")))


@pytest.mark.process
@pytest.mark.slow
def test_the_commands_work_as_they_stand(tmp_path: Path) -> None:
    """The commands work with the jobs of the first code block."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(snippets()[0], encoding="utf-8")
    servers = [arguments for arguments in commands() if arguments[-1] in {"worker", "dashboard"}]
    worker, dashboard = (
        subprocess.Popen([sys.executable, "-m", "jobrt", *arguments], cwd=tmp_path, text=True, **PIPES)
        for arguments in (servers[0], [*servers[1], "--port=0"])  # the default port may be in use
    )
    try:
        assert dashboard.stdout is not None
        assert dashboard.stdout.readline().startswith("dashboard at http://127.0.0.1:")
        output = {}
        for arguments in commands():
            if arguments in servers:
                continue
            actual = ["1" if argument == "7" else argument for argument in arguments]
            done = subprocess.run(
                [sys.executable, "-m", "jobrt", *actual],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            output[command_of(actual)] = done.stdout
    finally:
        for process in (worker, dashboard):
            process.terminate()
            process.communicate(timeout=60)
    assert (worker.returncode, dashboard.returncode) == (0, 0)
    assert "'Hello' went to a@example.com" in output["enqueue"]
    assert "job 1  SendEmail  completed" in output["show"]


def test_the_readme_names_only_commands_that_exist() -> None:
    """Each `python -m jobrt … COMMAND` names an existing command."""
    from jobrt.cli import cli

    names = {command_of(arguments) for arguments in commands()}
    assert names
    assert names <= set(cli.commands)


def test_its_lines_can_be_read_side_by_side_with_code() -> None:
    """Lines have at most 100 characters, except commands that users copy."""
    long = [line for line in README.splitlines() if len(line) > 100]
    assert [line for line in long if not line.startswith("python")] == []
