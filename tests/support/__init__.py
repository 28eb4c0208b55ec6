"""Support for the tests: fixtures and temporary databases. Nothing here is about jobrt itself."""
