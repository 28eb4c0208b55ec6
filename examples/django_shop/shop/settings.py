"""Settings of the example. Tasks are stored in Django's own database, in its transactions.

It needs ``pip install "jobrt[django]"`` and Python 3.12. In the folder of ``manage.py``::

    python manage.py migrate                # the tables of the shop, and those of jobrt
    python manage.py order ada 1999         # an order and its receipt, in one transaction
    python manage.py jobrt worker --drain   # or: python -m jobrt --app jobrt.django:app worker
    python manage.py receipt 1
"""

from pathlib import Path

SECRET_KEY = "only for the example"  # noqa: S105 - it signs nothing here
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["shop", "jobrt.django"]

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent.parent / "shop.sqlite3"}
}

TASKS = {
    "default": {
        "BACKEND": "jobrt.django.Backend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"database": "default", "max_attempts": 5, "queues": {"mail": 2}},
    }
}
