"""Text from a trained model, and its state as a file."""
