"""Hold every storage engine to the words of the `Storage` protocol; see design/testing-storage.md."""
