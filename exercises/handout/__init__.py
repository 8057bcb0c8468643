"""What students get: the release, and notebooks for nbgrader."""
