"""Retention compiled by Numba, under the same contract."""
