"""Command of jobrt for Django's ``manage.py``."""
