"""Tests specific to PostgreSQL: plans, locks, sessions, wake-ups, names."""
