"""Command line of the project: ``python manage.py order ada 1999``; `shop.settings` says how to run it."""

import os

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line()
