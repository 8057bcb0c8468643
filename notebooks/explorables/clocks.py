"""Lesson 3: a query and a key as the hands of a clock."""

from .explorable import Explorable


class Clocks(Explorable):
    """Two hands that turn with their tokens, and their score against the distance (Eq. 5 of the paper, one pair)."""

    module = "clocks"
