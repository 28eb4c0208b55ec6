"""Tests of the dashboard, through a socket or with a browser."""
