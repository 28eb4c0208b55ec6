# /// script
# dependencies = ["nox>=2025.5.1"]
# ///
"""Sessions for checks, tests and builds. `nox` runs those that every change must pass; `nox -l` lists all sessions.

Arguments after `--` go to pytest, as in `nox -s tests-3.13 -- tests/core -x`. `bench` runs them as a script instead.
"""

import json
import sys
import zipfile
from pathlib import Path

import nox
from packaging.requirements import Requirement

PROJECT = nox.project.load_toml("pyproject.toml")
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = list(dict.fromkeys([*nox.project.python_versions(PROJECT), THIS_PYTHON]))
COVERAGE = Path(".nox", "measured").absolute()
DIST = Path("dist")

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
# `nox -s tests` skips Pythons that are not installed. A Python that is named, as in `tests-3.13`, must be installed.
nox.options.error_on_missing_interpreters = any("tests-" in argument for argument in sys.argv[1:])
# By default, only the Python that runs nox: each other one takes as long again. `nox -s tests` uses all.
nox.options.sessions = ["lint", "typing", f"tests-{THIS_PYTHON}", "coverage", "docs", "build"]


def group(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups. The pip of older Pythons cannot read the groups itself."""
    return nox.project.dependency_groups(PROJECT, *names)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and import layers with import-linter."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright, and that every public name has a type."""
    session.install(".[process,dashboard,otel,prometheus]", *group("test", "typing"), "nox")
    session.run("mypy")
    session.run("pyright")
    found = session.run(
        "pyright",
        "--verifytypes",
        "jobrt",
        "--ignoreexternal",
        "--outputjson",
        silent=True,
        success_codes=[0, 1],
    )
    symbols = json.loads(str(found))["typeCompleteness"]["symbols"]
    unknown = [one["name"] for one in symbols if not one["isTypeKnown"] or one["isTypeAmbiguous"]]
    if others := [name for name in unknown if not name.startswith("jobrt.django.")]:  # Django has no types
        session.error(f"not completely typed: {', '.join(others)}")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on both engines against the installed package, and measure coverage."""
    session.install(".[process,dashboard,otel,prometheus]", *group("test", "typing"))
    COVERAGE.mkdir(parents=True, exist_ok=True)
    data = COVERAGE / f"python-{session.python}"
    for old in COVERAGE.glob(f"{data.name}*"):
        old.unlink()
    run_tests(session, "coverage", "run", "-m", "pytest", env={"COVERAGE_FILE": str(data)})


@nox.session
def coverage(session: nox.Session) -> None:
    """Check the coverage that `tests` measured: at least 95 % of lines and branches, 100 % in the core."""
    session.install(*(requirement for requirement in group("test") if requirement.startswith("coverage")))
    session.env["COVERAGE_FILE"] = str(COVERAGE / "all")
    session.run("coverage", "combine", "--keep", "--quiet", *map(str, sorted(COVERAGE.glob("python-*"))))
    session.run("coverage", "report", "--fail-under=100", "--include=*/jobrt/_core/*")
    session.run("coverage", "report", "--fail-under=95")


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest supported releases of the dependencies of jobrt and its dashboard."""
    constraints = Path(session.create_tmp(), "minimums.txt")
    project = PROJECT["project"]
    constraints.write_text(
        "\n".join(oldest([*project["dependencies"], *project["optional-dependencies"]["dashboard"]]))
    )
    session.install(
        ".[process,dashboard,otel,prometheus]", *group("test", "typing"), "--constraint", str(constraints)
    )
    run_tests(session, "python", "-m", "pytest")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the guide into `.nox/guide/`, without the network; a warning is an error."""
    session.install(".[dashboard,otel]", *group("docs"))
    cache = session.create_tmp()
    strict = ("--fail-on-warning", "--keep-going", "--quiet")
    session.run("sphinx-build", *strict, "--doctree-dir", cache, "design/guide", ".nox/guide")


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into `dist/`, check both, install the wheel, and start the program."""
    session.install("build", "check-wheel-contents", "twine")
    for old in DIST.glob("*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(DIST), silent=True)
    (wheel,) = DIST.glob("*.whl")
    missing = packaged_files() - set(zipfile.ZipFile(wheel).namelist())
    if missing:
        session.error(f"files are missing in {wheel}: {sorted(missing)}")
    session.run("twine", "check", "--strict", *map(str, DIST.glob("*")))
    session.run("check-wheel-contents", str(wheel))
    session.install("--force-reinstall", str(wheel))
    session.run("jobrt", "--version")
    session.run("python", "-m", "jobrt", "--help", silent=True)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every program in `examples/` (not run by default: the tests run them)."""
    session.install(".[process,dashboard,otel,prometheus]", *group("examples"))
    for example in sorted(Path("examples").glob("*.py")):
        session.run("python", str(example))


@nox.session
def crash(session: nox.Session) -> None:
    """Kill processes and servers at random for a long time (not run by default)."""
    session.install(".[process,dashboard,otel,prometheus]", *group("test", "typing"))
    session.run("python", "-m", "tests.chaos", *(session.posargs or ["--seconds", "600"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Run all benchmarks, or one with `-- SCRIPT OPTION …` (not run by default). Use an idle machine."""
    session.install(".[process,dashboard,otel,prometheus]", *group("test"))
    if session.posargs:
        session.run("python", *session.posargs)
        return
    for script in sorted(Path("tests/bench").glob("*.py")):
        session.run("python", str(script))


def run_tests(session: nox.Session, *runner: str, env: dict[str, str] | None = None) -> None:
    """Run pytest in three processes, with the same Hypothesis examples each time, and list the slowest tests.

    They are for two cores: for a third of its time, a test waits for the disk, for a server or for a process.
    """
    workers = ("-n3", "--dist=worksteal")
    session.run(*runner, *workers, "--hypothesis-profile=ci", "--durations=10", *session.posargs, env=env)


def oldest(requirements: list[str]) -> list[str]:
    """Return the requirements pinned to their lower bounds."""
    parsed = map(Requirement, requirements)
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in parsed
        for bound in requirement.specifier
        if bound.operator == ">="
    ]


def packaged_files() -> set[str]:
    """Return the names of the files under `src`, without caches."""
    src = Path("src")
    files = (path for path in src.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(src).as_posix() for path in files}
