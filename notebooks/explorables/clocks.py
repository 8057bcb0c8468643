"""Lesson 3: a query and a key as the hands of a clock."""

from .explorable import Explorable


class Clocks(Explorable):
    """Move the key along the text: both hands turn, the score stays. Then turn the query until it reads another distance
    most; set the angle to 0, and the nearest token wins whatever the query (Eq. 4 of the paper, one pair)."""

    module = "clocks"
