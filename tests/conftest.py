"""Hypothesis the same everywhere, and the list of mutants at the end of a run."""

from hypothesis import Phase, settings

# Derandomised: CI and a reader see the same examples. No deadline: a busy machine is no failure.
settings.register_profile("tests", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("mutants", settings.get_profile("tests"), max_examples=25, phases=[Phase.generate])
settings.load_profile("tests")
