"""Tests of probes and metrics."""
