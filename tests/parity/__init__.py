"""What the five libraries offer that jobrt descends from, held on both engines; ``design/parity.md`` is the index."""
