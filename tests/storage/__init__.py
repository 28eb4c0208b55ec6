"""Tests of behaviour specific to one storage engine; shared behaviour is tested in `tests/conformance`."""
