"""The application of a project's backend, for ``python -m jobrt --app jobrt.django:app``."""

import os

import django
from django.apps import apps
from django.conf import settings
from django.tasks import task_backends  # pyright: ignore[reportMissingImports] # Django 6

from jobrt._core.text import in_one_line
from jobrt.app import App
from jobrt.django.backend import Backend
from jobrt.errors import InvalidSetting

_EXAMPLE = '{"default": {"BACKEND": "jobrt.django.Backend", "OPTIONS": {"database": "default"}}}'


def worker_app() -> App:
    """Return the application of the backend ``"default"``, or else of the first backend that is jobrt's.

    Raises:
        InvalidSetting: Django's settings are missing, or have no such backend.

    """
    set_up()
    aliases = sorted(settings.TASKS, key=lambda alias: alias != "default")
    for alias in aliases:
        if isinstance(backend := task_backends[alias], Backend):
            return backend.app
    raise InvalidSetting(f"the setting TASKS has no backend of jobrt: add TASKS = {_EXAMPLE}")


def set_up() -> None:
    """Set Django up, unless it is. In the `ready` of an app, to which hooks may be added, it is as good as that."""
    if apps.models_ready:
        return
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not name and not settings.configured:
        raise InvalidSetting(
            "jobrt.django:app needs the settings of Django: set DJANGO_SETTINGS_MODULE, for example to shop.settings"
        )
    try:
        django.setup()
    except Exception as error:
        raise InvalidSetting(f"DJANGO_SETTINGS_MODULE={name}: {in_one_line(error)}") from error
