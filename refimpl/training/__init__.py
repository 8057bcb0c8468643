"""Text, tokens, the loop, and training in NumPy."""
