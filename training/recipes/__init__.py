"""Recipes: one file each, which defines RECIPE."""
