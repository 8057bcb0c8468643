"""A run: its settings, steps, checkpoints, and studies of many."""
