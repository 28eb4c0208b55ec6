"""Enqueueing and managing, through an app."""
