"""Errors, files and statistics."""
