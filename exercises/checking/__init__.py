"""What a check is, how an answer is judged, and what its writer is told."""
