"""Durable scopes, from jobs down to both engines."""
