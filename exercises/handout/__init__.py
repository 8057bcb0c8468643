"""What students are given: the release, and notebooks for nbgrader."""
