"""The example project, run as its settings describe: migrations, enqueueing in a transaction, a worker, a result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.django_project import django_database

PROJECT = Path(__file__).parents[2] / "examples" / "django_shop"

needs_django = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="needs Django 6.0, which needs Python 3.12"
)


def python(
    folder: Path, *arguments: str, status: int = 0, settings: str | None = "shop.settings"
) -> list[str]:
    """Run a command in the project, and return the lines that it prints."""
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    if settings is not None:
        env["DJANGO_SETTINGS_MODULE"] = settings
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return (done.stdout if status == 0 else done.stderr).strip().splitlines()


_APPS = """
from pathlib import Path
from django.apps import AppConfig
import jobrt.django

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        @jobrt.django.app.around_attempt
        async def note(ctx, run):
            Path("hooked").touch()
            return await run()
"""


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Path:
    """A copy of the project, with a database of one of the engines, and a hook around attempts."""
    folder = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("*.sqlite3*"))
    (folder / "shop" / "apps.py").write_text(_APPS, encoding="utf-8")
    with (folder / "shop" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(f"\nDATABASES = {{'default': {django_database(database_url)!r}}}\n")
    return folder


@needs_django
@pytest.mark.process
@pytest.mark.slow
def test_the_project_runs(project: Path) -> None:
    """An order that is refused leaves no task. The other's receipt is written by a worker, and its result is found."""
    python(project, "manage.py", "migrate")
    assert python(project, "manage.py", "jobrt", "migrate", "--check") == ["up to date"]
    refused = python(project, "manage.py", "order", "ada", "0", status=1)
    assert refused == ["CommandError: nothing was ordered: the price must be more than 0"]
    (ordered,) = python(project, "manage.py", "order", "ada", "1999")
    task = ordered.rpartition(" ")[2]
    assert python(project, "manage.py", "receipt", task)[0] == "READY: not yet"
    python(project, "-m", "jobrt", "--app", "jobrt.django:app", "worker", "--drain")
    assert python(project, "manage.py", "receipt", task) == [
        "SUCCESSFUL: ada has paid 19.99",
        "orders: 1, with receipts: 1",
    ]
    assert (project / "hooked").exists()


@needs_django
@pytest.mark.process
def test_missing_settings(tmp_path: Path) -> None:
    """A worker without Django's settings, with a wrong name or without a backend of jobrt says so in one line."""
    (tmp_path / "plain.py").write_text("SECRET_KEY = 'x'\n", encoding="utf-8")
    worker = ("-m", "jobrt", "--app", "jobrt.django:app", "worker", "--drain")
    for settings, message in (
        (None, "jobrt: jobrt.django:app needs the settings of Django: set DJANGO_SETTINGS_MODULE"),
        ("nowhere", "jobrt: DJANGO_SETTINGS_MODULE=nowhere: ModuleNotFoundError: No module named 'nowhere'"),
        ("plain", "jobrt: the setting TASKS has no backend of jobrt: add TASKS = {"),
    ):
        (line,) = python(tmp_path, *worker, status=1, settings=settings)
        assert line.startswith(message)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python may have Django 6.0")
@pytest.mark.process
def test_an_old_django(tmp_path: Path) -> None:
    """Django before 6.0 has no tasks: the import says what is needed, and the command line shows it in one line."""
    message = r"jobrt.django needs Django 6.0 or newer, which has django.tasks and needs Python 3.12: this is Django 5"
    (line,) = python(tmp_path, "-m", "jobrt", "--app", "jobrt.django:app", "worker", status=1)
    assert message in line
