"""Demo: hash and count every file of a directory, with one durable job per file.

::

    run      finds the files, enqueues a job for each, and runs a worker until the report is written
    jobs     a job for each file, and a job for the report
    report   totals of the results, and the file of digests

``jobrt.cli.demo`` shows its progress and its report.
"""
