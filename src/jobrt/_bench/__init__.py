"""The bench: how fast jobrt is with this machine and this database."""
