"""The demo: hash and count every file of a directory, one durable job each.

::

    run      makes the app, enqueues a job for each file, runs a worker until the report is written
    jobs     the jobs: one per file, and one for the report
    report   sums up the results and writes the digests
    files    which files a directory has

``jobrt.cli.demo`` shows what it does.
"""
