"""Shop of the example: its orders are rows, and its receipts are tasks."""
