"""Values and texts that the command line and the dashboard both show.

::

    filters     job filters, parsed from text        status    queues, cron entries and running jobs
    findings    why nothing is running               trees     a worker's supervision tree, line by line
    limits      limits that hold back due jobs
    words       durations, counts and watchdog notices as text        as_json    records as JSON

Nothing here prints or knows HTTP. The current time is an argument.
"""
