"""Run durable background jobs under Trio."""
