"""What the package ships, and how the house is kept: what no single module can be asked."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, metadata
from importlib.resources import files
from pathlib import Path

import pytest

import jobrt

ROOT = Path(__file__).parent.parent
MODULES = sorted(Path(str(files(jobrt))).rglob("*.py"))

LONGEST_FILE = 500
LONGEST_FUNCTION = 50
LONGER_WITH_REASON = {"logs.py:describe": "one match, with one line for each kind of event"}
LOADED_LATE = {
    *(
        "asyncio",
        "click",
        "hypercorn",
        "jinja2",
        "prometheus_client",
        "psycopg",
        "pytest",
        "rich",
        "starlette",
    ),
    *("trio_asyncio", "jobrt.dashboard", "jobrt.probes", "jobrt.testing"),
}


def module_id(path: Path) -> str:
    """Name a module by its path below the package."""
    return path.relative_to(str(files(jobrt))).as_posix()


def lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Give the number of lines of each function in a file, without its signature and its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            yield f"{module_id(path)}:{node.name}", (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_types_are_shipped() -> None:
    """Type checkers are told that the annotations are meant for them."""
    assert files(jobrt).joinpath("py.typed").is_file()


def test_metadata() -> None:
    """The installed package says what it is: its name, its licence, the oldest Python, and that it is for Trio."""
    about = metadata("jobrt")
    assert about["Name"] == "jobrt"
    assert about["License-Expression"] == "MIT OR Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert "Framework :: Trio" in about.get_all("Classifier", [])


def test_console_script() -> None:
    """`jobrt` is the same program as `python -m jobrt`."""
    (script,) = entry_points(group="console_scripts", name="jobrt")
    assert callable(script.load())


def test_public_names_are_sorted_and_there() -> None:
    """`jobrt.__all__` is in order, without repetition, and each of its names exists."""
    assert list(jobrt.__all__) == sorted(set(jobrt.__all__))
    assert [name for name in jobrt.__all__ if not hasattr(jobrt, name)] == []


def test_public_names_say_what_they_are() -> None:
    """Every public class and function has a docstring of its own."""
    public = {name: getattr(jobrt, name) for name in jobrt.__all__}
    assert [name for name, value in public.items() if callable(value) and not value.__doc__] == []


@pytest.mark.process
def test_importing_jobrt_is_cheap() -> None:
    """A program that imports jobrt does not load the command line, PostgreSQL's driver, asyncio or pytest."""
    probe = f"import sys, jobrt; print(*sorted({LOADED_LATE!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert loaded.stdout.split() == []


@pytest.mark.process
@pytest.mark.parametrize("name", ["dashboard", "probes", "testing"])
def test_what_most_programs_do_not_need_is_there_when_asked_for(name: str) -> None:
    """`jobrt.testing` and its like need no import of their own, and `dir` shows them."""
    probe = (
        f"import jobrt; print(jobrt.{name}.__name__, jobrt.{name} is jobrt.{name}, '{name}' in dir(jobrt))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert done.stdout.split() == [f"jobrt.{name}", "True", "True"]


@pytest.mark.process
def test_the_dashboard_says_what_it_needs() -> None:
    """Without its extra, asking for it says which one to install; the rest of jobrt works."""
    probe = (
        "import sys; sys.modules['starlette'] = None; import jobrt\n"
        "try: jobrt.dashboard\nexcept ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert "pip install 'jobrt[dashboard]'" in done.stdout


def test_a_name_that_is_not_there() -> None:
    """It is an `AttributeError`, as for any module."""
    with pytest.raises(AttributeError, match="module 'jobrt' has no attribute 'Jobs'"):
        jobrt.Jobs  # noqa: B018 - it is about the name


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_modules_have_a_size_that_can_be_read(path: Path) -> None:
    """No file has more than 500 lines, and no function more than 50, unless a reason is given above."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    too_long = {name: length for name, length in lengths(path) if length > LONGEST_FUNCTION}
    assert too_long.keys() <= LONGER_WITH_REASON.keys()


def test_modules_have_telling_names() -> None:
    """Nothing is called after being shared instead of after what it does."""
    assert {path.stem for path in MODULES}.isdisjoint(
        {"common", "helpers", "misc", "models", "types", "utils"}
    )


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout has a top level of ours")
def test_the_top_level_stays_small() -> None:
    """What a visitor sees first are the few files and folders that have to be there."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= {
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "noxfile.py", "pyproject.toml"),
        *("design", "examples", "src", "tests"),
    }


def test_ci_runs_the_line_of_the_readme() -> None:
    """Whoever follows the README runs what CI runs."""
    line = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")


def test_this_machines_clock_decides_nothing() -> None:
    """Due times, windows, leases and ages go by the database's clock: who reads another one only shows ages with it.

    In SQLite the machine's clock is the database's, and `child` notes for people since when something is so.
    """
    allowed = {
        "_storage/sqlite/open.py",
        "_storage/sqlite/blocking.py",
        "_supervision/child.py",
        "_runtime/telemetry.py",  # tells it to people, who compare it with the database's
        "cli/doctor.py",  # compares it
        "_core/arguments.py",  # names it in a message
    }
    reads = re.compile(r"datetime\.now|utcnow|\btime\.time|time_ns|date\.today")
    found = {module_id(path) for path in MODULES if reads.search(path.read_text(encoding="utf-8"))}
    assert {one for one in found if not one.startswith("dashboard/")} <= allowed


def test_commands_print_by_one_module() -> None:
    """`cli/output.py` escapes what it prints. The guard, which runs without jobrt, prints no text of others."""
    allowed = {"cli/output.py", "cli/guard.py"}
    prints = re.compile(r"click\.(echo|secho)\(|(?<![.\w])print\(|sys\.std(out|err)\.write|rich\.markup")
    commands = [path for path in MODULES if module_id(path).startswith("cli/")]
    assert {
        module_id(path) for path in commands if prints.search(path.read_text(encoding="utf-8"))
    } <= allowed
