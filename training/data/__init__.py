"""Dataset name or folder -> batches."""
