"""Users' programs under mypy --strict and pyright: the right ones pass, and each wrong line is found."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(HERE.glob("*/*.py"))

Found = set[tuple[str, int]]

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.unmeasured]


def run(*command: str, cwd: Path) -> str:
    """Run a type checker, which ends with 1 when it finds something."""
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": scripts},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path, cache: Path) -> Found:
    """Return where mypy --strict complains, with a new user's configuration: none."""
    pytest.importorskip("mypy")
    output = run(
        sys.executable,
        *("-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--no-error-summary", "."),
        cwd=folder,
    )
    return {
        (Path(file).as_posix(), int(line))
        for file, line in re.findall(r"^(.+?):(\d+): error:", output, re.MULTILINE)
    }


def pyright(folder: Path, cache: Path) -> Found:
    """Return where pyright complains; the programs ask for its strict mode."""
    pytest.importorskip("pyright")
    output = run(
        sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, ".", cwd=folder
    )
    return {
        (Path(one["file"]).relative_to(folder.resolve()).as_posix(), one["range"]["start"]["line"] + 1)
        for one in json.loads(output)["generalDiagnostics"]
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_type_checkers_find_what_is_wrong_and_nothing_else(
    checker: Callable[[Path, Path], Found],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> None:
    """Both complain about exactly the lines that are marked as refused. Strict mypy also passes what users copy."""
    wanted: Found = set()
    if checker is mypy:  # in one run, which reads jobrt once
        pytest.importorskip("hypercorn")
        without = shutil.ignore_patterns("django_*", "__pycache__")  # Django has no types
        shutil.copytree(HERE.parents[1] / "examples", tmp_path / "examples", ignore=without)
    for program in PROGRAMS:
        name = f"{program.parent.name}_{program.name}"
        shutil.copy(program, tmp_path / name)
        lines = program.read_text().splitlines()
        wanted |= {(name, number) for number, line in enumerate(lines, 1) if "# refused: " in line}
    assert len(wanted) > 20
    kept = pytestconfig.pluginmanager.hasplugin("cacheprovider")  # from run to run: that makes it quicker
    name = f"jobrt-{checker.__name__}"
    found = checker(tmp_path, pytestconfig.cache.mkdir(name) if kept else tmp_path_factory.mktemp(name))
    assert found == wanted


@pytest.mark.parametrize("program", sorted(HERE.glob("accepted/*.py")), ids=lambda path: path.stem)
def test_what_type_checkers_accept_runs(program: Path) -> None:
    """The programs that type checkers accept define their jobs without complaint when they run."""
    names = runpy.run_path(str(program))
    assert len(names["app"].registry) >= 3
