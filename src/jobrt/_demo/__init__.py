"""The demo: hash and count every file of a directory, durably."""
