"""Tests of the backend for Django's Tasks; they need Django 6.0."""
