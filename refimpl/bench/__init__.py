"""What the forms cost on a CPU."""
