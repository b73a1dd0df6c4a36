"""Training images -> augmented images."""
