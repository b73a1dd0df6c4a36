"""Checked artefacts -> report and model card."""
