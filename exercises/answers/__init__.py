"""What is asked and what is right: an exercise a module."""
