"""Rows of the shop."""

from django.db import models


class Order(models.Model):
    """What a customer has bought."""

    customer = models.CharField(max_length=100)
    total = models.IntegerField()
    receipt = models.TextField(default="")

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"
