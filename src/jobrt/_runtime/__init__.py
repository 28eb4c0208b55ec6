"""Run jobs: Trio actors under supervision, which meet only where the worker wires them."""
