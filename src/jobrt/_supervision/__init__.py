"""Supervisors for Trio, as in Erlang/OTP: they restart children that fail, and stop them in order.

This package knows nothing of jobs::

    supervisor   Supervisor: the task that performs the decisions
    child        children: functions, options, latest tasks, slots
    records      immutable events and statistics
    decisions    pure functions, without Trio and clock
"""
