"""Values and decisions: pure functions without clock, I/O or Trio."""
