"""Errors, checks, files, statistics and types."""
