"""Backend for Django's Tasks (Django 6.0 and newer): tasks are jobs, and ``python -m jobrt`` runs them.

::

    TASKS = {"default": {"BACKEND": "jobrt.django.Backend", "OPTIONS": {"database": "default"}}}

    DJANGO_SETTINGS_MODULE=shop.settings python -m jobrt --app jobrt.django:app worker

With ``"jobrt.django"`` in ``INSTALLED_APPS``, ``manage.py jobrt migrate`` is ``python -m jobrt migrate`` and so on, and
``manage.py migrate`` migrates the tables of jobrt too.

::

    settings        the options in TASKS
    backend         Backend: enqueues, and looks results up
    results         stored jobs as Django's results
    run             the job that runs a task
    workers         the App of a backend
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if importlib.util.find_spec("django") is None:
    raise ImportError("jobrt.django needs Django 6.0 or newer: pip install jobrt[django]")
if importlib.util.find_spec("django.tasks") is None:
    from django import __version__ as _found

    raise ImportError(
        f"jobrt.django needs Django 6.0 or newer, which has django.tasks and needs Python 3.12: this is Django {_found}"
    )

from jobrt.django.backend import Backend  # after the checks

if TYPE_CHECKING:
    from jobrt.app import App

    app: App

__all__ = ["Backend", "app"]


if not TYPE_CHECKING:  # to type checkers, every name would exist

    def __getattr__(name: str) -> Any:
        """Return `app`, the application that runs the tasks; it sets Django up at first use."""
        if name != "app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module("jobrt.django.workers").worker_app()
