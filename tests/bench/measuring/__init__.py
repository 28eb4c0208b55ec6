"""What `postgres.py` and `sqlite.py` are made of.

::

    rounds      who is measured, in which order, and what became of it
    parts       the measurements: one by one, a drain, pulses
    processes   clients and workers, each in a process of its own
    databases   a database on a server, or a SQLite file, and what can be read there
    flat        jobrt alone: does a held snapshot, a backlog, a history make jobs dearer?
    targets     what must be reached, and whether it was
    tables      medians, ranges, Markdown
"""
