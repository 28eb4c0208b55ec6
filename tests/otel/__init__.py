"""Tests of `jobrt.otel`, with the SDK's exporters in memory."""
