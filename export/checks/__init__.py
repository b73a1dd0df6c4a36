"""Artefact -> whether it answers like the Keras model, in its own runtime."""
