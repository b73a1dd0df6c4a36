"""Image bytes -> normalised images."""
