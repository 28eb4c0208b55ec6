"""Settings of Django for tests in this process."""

from typing import Any

import django
from django.apps import apps
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

_DUMMY = {"BACKEND": "django.tasks.backends.dummy.DummyBackend", "QUEUES": []}


def set_up_django() -> None:
    """Set Django up, once; its logging and its time zone stay those of the tests."""
    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None, USE_TZ=True, TASKS={"default": _DUMMY})
    if not apps.ready:
        django.setup()


def django_database(url: str) -> dict[str, Any]:
    """Return Django's settings for a database of jobrt."""
    if url.startswith("sqlite"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    parts = conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port", "PASSWORD": "password"}
    found = {key: str(parts[name]) for key, name in names.items() if name in parts}
    return {"ENGINE": "django.db.backends.postgresql", **found}
