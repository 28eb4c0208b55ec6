"""Tasks of the shop."""

from django.tasks import task

from shop.models import Order


@task(queue_name="mail", priority=10)
def send_receipt(order_id: int) -> str:
    """Write the receipt of an order and return it. It may run twice, so it writes the same again."""
    order = Order.objects.get(pk=order_id)
    order.receipt = f"{order.customer} has paid {order.total / 100:.2f}"
    order.save(update_fields=["receipt"])
    return order.receipt
