"""A class, graded: isolation, batches, feedback."""
