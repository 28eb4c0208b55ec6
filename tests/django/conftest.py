"""Set-up of Django before its tests are imported, and backends for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

import jobrt
from tests.support.django_project import django_database, set_up_django

set_up_django()

Configure = Callable[..., Any]


@pytest.fixture
def backend() -> Iterator[Configure]:
    """Function that makes the backend of the tasks one of jobrt, with these options; see `configure`."""
    from django.tasks import task_backends
    from django.test import override_settings

    changed: list[Any] = []

    def change(names: list[str] | None = None, **options: Any) -> Any:
        given = {name: value for name, value in options.items() if value is not None}
        queues = {} if names is None else {"QUEUES": names}
        setting = {"default": {"BACKEND": "jobrt.django.Backend", "OPTIONS": given, **queues}}
        changed.append(override_settings(TASKS=setting))
        changed[-1].enable()
        return task_backends["default"]

    yield change
    while changed:
        changed.pop().disable()


@pytest.fixture
def configure(database_url: str, backend: Configure) -> Configure:
    """Function that makes the backend of the tasks that of a migrated database, with more options."""
    from tests.django import tasks

    trio.run(jobrt.App(database_url).migrate)
    tasks.CALLS.clear()
    return lambda names=None, **options: backend(names, **{"url": database_url, **options})


@pytest.fixture
def shop(database_url: str) -> Iterator[Any]:
    """Connection of Django to the database of the jobs, by the alias "shop"."""
    from django.db import connections

    connections.settings["shop"] = connections.configure_settings(
        {"default": {}, "shop": django_database(database_url)}
    )["shop"]
    yield connections["shop"]
    connections["shop"].close()
    del connections["shop"], connections.settings["shop"]
