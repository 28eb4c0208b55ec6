"""Hold the storages to what only they do; what they share is in `tests/conformance`."""
