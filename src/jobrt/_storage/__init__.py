"""Jobs in a database: one contract, one conformance suite, two engines."""
