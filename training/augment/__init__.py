"""Training images -> randomly augmented training images."""
