"""Checks for any retention: the contract, what it refuses, the paper's numbers, and broken kernels that must fail."""
