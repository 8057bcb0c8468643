"""Grading a class: isolation, batches, feedback."""
