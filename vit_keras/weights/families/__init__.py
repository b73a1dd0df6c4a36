"""One name table for each family of published weights."""
