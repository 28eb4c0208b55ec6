"""Tests of `jobrt.testing`."""
