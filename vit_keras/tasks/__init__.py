"""Training objectives besides classification."""
