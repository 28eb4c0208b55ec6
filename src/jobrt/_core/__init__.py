"""Decide: plain values and functions, with no clock, no I/O and no Trio."""
