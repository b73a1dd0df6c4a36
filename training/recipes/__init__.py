"""One file a recipe; each holds RECIPE."""
