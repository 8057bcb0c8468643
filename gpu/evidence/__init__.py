"""What finished runs show: power laws, loss by position and by lag, with intervals."""
