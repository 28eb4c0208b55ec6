"""Tests of what only the SQLite engine has: files, locks, threads, plans."""
