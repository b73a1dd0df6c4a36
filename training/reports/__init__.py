"""Run folder -> reports."""
