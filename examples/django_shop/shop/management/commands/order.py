"""``manage.py order CUSTOMER CENTS``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from shop.models import Order
from shop.tasks import send_receipt


class Command(BaseCommand):
    """Order and receipt in one transaction."""

    help = "Store an order, and enqueue its receipt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the customer and the price."""
        parser.add_argument("customer")
        parser.add_argument("cents", type=int)

    def handle(self, *_: Any, customer: str, cents: int, **__: Any) -> None:
        """Store both, or neither if the price is wrong."""
        with transaction.atomic():
            order = Order.objects.create(customer=customer, total=cents)
            result = send_receipt.enqueue(order.pk)
            if cents <= 0:
                raise CommandError("nothing was ordered: the price must be more than 0")
        self.stdout.write(f"order {order.pk}: its receipt is task {result.id}")
