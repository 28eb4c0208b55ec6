"""Keep jobs in a database: one Protocol, one conformance suite, two engines."""
