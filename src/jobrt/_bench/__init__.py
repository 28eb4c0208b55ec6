"""Benchmark of this machine and database.

::

    measure    the measurements and their figures
    scratch    an empty schema or file beside a database, removed afterwards

``jobrt.cli.bench`` shows the figures.
"""
