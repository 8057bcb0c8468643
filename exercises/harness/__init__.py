"""How student code is found and run, with nothing of the course within reach."""
