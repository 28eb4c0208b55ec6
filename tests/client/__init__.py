"""Tests of enqueueing and managing jobs through an app."""
