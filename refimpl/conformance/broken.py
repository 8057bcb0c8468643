"""Broken kernels: mistakes that kernels make, each of which `check` must catch, and name.

MISTAKES holds all of them, each with the name that the report must give it, and the library and dtype in which it shows.
"""

from . import broken_formulas, broken_gradients, broken_memory  # noqa: F401 - each lists its own
from .mistakes import MISTAKES

__all__ = ["MISTAKES"]
