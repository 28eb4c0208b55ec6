"""Say what people want to know, in values and words: what the command line and the dashboard share.

::

    picking    which jobs are meant, from texts            trees      a worker's supervision tree, line by line
    findings   why is nothing running?                     queues · jobs · crons      how each of them stands
    words      lengths of time, numbers of jobs, watchdogs' notices

Nothing here prints, and nothing knows HTTP. The time is an argument.
"""
