"""What the tests stand on: fixtures, throw-away databases, and nothing about jobrt itself."""
