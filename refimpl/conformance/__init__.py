"""Checks for any retention: the contract, what it refuses, the paper's numbers, and broken kernels that must fail."""

from .report import ConformanceError, Report
from .suite import check

__all__ = ["ConformanceError", "Report", "check"]
