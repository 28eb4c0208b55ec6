"""Tests of every storage engine against the `Storage` protocol; see design/testing-storage.md."""
