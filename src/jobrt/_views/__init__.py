"""Values and texts that the command line and the dashboard both show.

::

    filters    job filters, parsed from text              trees      a worker's supervision tree, line by line
    findings   why nothing is running                     queues · jobs · crons      the status of each
    words      durations, counts and watchdog notices as text

Nothing here prints or knows HTTP. The current time is an argument.
"""
