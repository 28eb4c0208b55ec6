"""``manage.py receipt TASK``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.tasks.exceptions import TaskResultDoesNotExist

from shop.models import Order
from shop.tasks import send_receipt


class Command(BaseCommand):
    """Result of a task."""

    help = "Show the receipt that a task has written."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the id of the task."""
        parser.add_argument("task")

    def handle(self, *_: Any, task: str, **__: Any) -> None:
        """Print status, result, and how many orders and receipts there are."""
        try:
            result = send_receipt.get_result(task)
        except TaskResultDoesNotExist as error:
            raise CommandError(f"there is no task {task}") from error
        self.stdout.write(f"{result.status}: {result.return_value if result.is_finished else 'not yet'}")
        orders = Order.objects
        self.stdout.write(f"orders: {orders.count()}, with receipts: {orders.exclude(receipt='').count()}")
