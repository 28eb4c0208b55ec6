"""The README says what is true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import drain, open_app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets() -> list[str]:
    """Return its Python."""
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.process
def test_the_hello_world_runs_as_it_stands(tmp_path: Path) -> None:
    """Copied into a file and run, it prints what the job returned."""
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
"""What the lines of "What a job may do" begin with, and how the job stands afterwards."""


@pytest.mark.parametrize(
    "line", snippets()[1].splitlines(), ids=lambda line: line.split("(")[0].split("{")[0]
)
async def test_a_job_may_do_what_it_says(autojump_clock: MockClock, line: str) -> None:
    """Each line, as the body of `run`, ends the attempt as its comment says."""
    (wanted,) = [end for start, end in ENDS.items() if line.startswith(start)]
    names: dict[str, Any] = {"jobrt": jobrt}
    exec(f"async def run(self, ctx):\n    {line}", names)  # noqa: S102 - this repository's own text
    job_class = type("Any", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    child_class = type("Child", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    async with open_app(jobs=[job_class, child_class]) as (app, jobs):
        names["children"] = [await jobs.enqueue(child_class(), schedule_in=3600)]
        handle = await jobs.enqueue(job_class())
        await drain(app)
        record = await jobs.get(handle.id)
    assert (str(record.state), str(record.result)) == wanted


async def test_a_plain_program_enqueues_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last snippet, with the job of the first: a worker beside it runs the job."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "hello"}
    exec(snippets()[0], names)  # noqa: S102 - this repository's own text
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(names["app"].run_worker)
            await trio.to_thread.run_sync(exec, snippets()[-1], names)
            await worker.stop()
    assert capsys.readouterr().out == "'Hello' went to a@example.com\n"


PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def commands() -> list[list[str]]:
    """Return the arguments of each `python -m jobrt` in it; what follows two blanks explains."""
    lines = [line for line in README.splitlines() if line.startswith("python -m jobrt")]
    return [shlex.split(re.split(r"\s{2,}", line)[0])[3:] for line in lines]


@pytest.mark.process
@pytest.mark.slow
def test_the_commands_work_as_they_stand(tmp_path: Path) -> None:
    """On the hello world's jobs: a worker, a job that it runs, and a look at what there is."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(snippets()[0], encoding="utf-8")
    lasting = [one for one in commands() if one[-1] in {"worker", "dashboard"}]
    worker, dashboard = (
        subprocess.Popen([sys.executable, "-m", "jobrt", *line], cwd=tmp_path, text=True, **PIPES)
        for line in (lasting[0], [*lasting[1], "--port=0"])  # the port of the README may be taken
    )
    try:
        assert dashboard.stdout is not None
        assert dashboard.stdout.readline().startswith("dashboard at http://127.0.0.1:")
        said = {}
        for arguments in commands():
            if arguments in lasting:
                continue
            shown = ["1" if one == "7" else one for one in arguments]
            done = subprocess.run(
                [sys.executable, "-m", "jobrt", *shown],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            said[next(one for one in shown if not one.startswith(("-", "shop", "sqlite")))] = done.stdout
    finally:
        for one in (worker, dashboard):
            one.terminate()
            one.communicate(timeout=60)
    assert (worker.returncode, dashboard.returncode) == (0, 0)
    assert "'Hello' went to a@example.com" in said["enqueue"]
    assert "job 1  SendEmail  completed" in said["show"]


def test_the_readme_names_only_commands_that_exist() -> None:
    """Each `python -m jobrt … COMMAND` in it is one of ours."""
    from jobrt.cli import cli

    words = [next(one for one in line if not one.startswith(("-", "shop", "sqlite"))) for line in commands()]
    assert words
    assert set(words) <= set(cli.commands)


def test_its_lines_can_be_read_side_by_side_with_code() -> None:
    """A hundred characters; only lines to be copied whole may be longer."""
    long = [line for line in README.splitlines() if len(line) > 100]
    assert [line for line in long if not line.startswith("python")] == []
