"""What a check is, how an answer is judged, and what the student is told."""
