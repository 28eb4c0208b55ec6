"""Supervisors for Trio, as in Erlang/OTP: they restart children that fail, and stop them in order.

This package knows nothing of jobs::

    supervisor   Supervisor: the task that performs the decisions
    child        function, options and latest task of a child
    records      immutable events and statistics
    children     the children of a supervisor, with their slots
    decisions    pure functions, without Trio and clock
"""
