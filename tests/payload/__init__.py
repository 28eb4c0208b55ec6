"""Tests of the pure layer: no clock, no I/O, no Trio."""
