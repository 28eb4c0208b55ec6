"""The bench: how fast jobrt is on this machine, with this database.

::

    measure    the measurements, each with its figure
    scratch    an empty place beside a database, removed afterwards

``jobrt.cli.bench`` shows the figures.
"""
