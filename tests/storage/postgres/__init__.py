"""What PostgreSQL alone does: plans, locks, sessions, wake-ups, names."""
