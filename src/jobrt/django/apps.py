"""Configuration of the Django app ``jobrt.django``: its command, and migrations along with Django's."""

from typing import Any

import trio
from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.tasks import task_backends  # pyright: ignore[reportMissingImports] # Django 6

from jobrt.django.backend import Backend


class JobrtConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Configuration of ``jobrt.django`` in ``INSTALLED_APPS``."""

    name = "jobrt.django"
    label = "jobrt"
    verbose_name = "jobrt"

    def import_models(self) -> None:
        """Have Django tell this app of migrations, which it tells only apps with models."""
        super().import_models()
        self.models_module = self.module

    def ready(self) -> None:
        """Have ``manage.py migrate``, and the set-up of test databases, migrate the tables of jobrt."""
        post_migrate.connect(_migrate, sender=self)


def _migrate(*, using: str, **_: Any) -> None:
    """Migrate the tables that are in a database of Django."""
    for backend in task_backends.all():
        if isinstance(backend, Backend) and backend.database == using:
            trio.run(backend.app.migrate)
