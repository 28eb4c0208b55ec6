"""Supervisors, as in OTP, for Trio: restart what fails, stop in order. Nothing here knows of jobs.

::

    supervisor   Supervisor: one task that performs what the decisions say
    child        a child's function, options and latest incarnation
    decisions    slots and steps: plain functions over values, no Trio, no clock
    records      events and statistics, immutable
"""
