"""The README says what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_every_snippet_is_python() -> None:
    """The shorter ones are statements inside `run` or around a client."""
    for text in snippets():
        body = "".join(f"    {line}\n" for line in text.splitlines())
        compile(f"async def example(jobrt, ctx, children):\n{body}", "README.md", "exec")


def test_the_readme_names_only_commands_that_exist() -> None:
    """Each `python -m jobrt … COMMAND` in it is one of ours."""
    from jobrt.cli import cli

    lines = [line for line in README.splitlines() if line.startswith("python -m jobrt")]
    words = [re.sub(r"--(app|url) \S+ ", "", line).split()[3] for line in lines]
    assert words
    assert set(words) <= set(cli.commands)
