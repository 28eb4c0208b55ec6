"""Parts of `postgres.py` and `sqlite.py`.

::

    rounds      contestants, their order, and results
    parts       the measurements: enqueueing one by one, drains, starts
    processes   clients and workers, each in a process of its own
    databases   PostgreSQL databases and SQLite files, and their counters
    flat        cost of a job with a snapshot held open, a backlog, or many finished jobs
    targets     targets, and whether they were reached
    tables      medians, ranges, Markdown
"""
