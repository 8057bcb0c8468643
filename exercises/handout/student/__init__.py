"""Exercises with checks that name the mistake: `check("ex01")` in a notebook, `python -m exercises` outside."""

from .checking.catalog import exercise_names, load
from .checking.notebook import check, points

__all__ = ["check", "exercise_names", "load", "points"]
