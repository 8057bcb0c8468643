"""Lesson 3: a query and a key as the hands of a clock."""

from .explorable import Explorable


class Clocks(Explorable):
    """A query is scored with a key by the angle between them (Eq. 4 of the paper, one pair of channels). Press Play: the key
    moves along the text, both hands turn, and the score stays. Then turn the query until it reads another distance most;
    at last set θ to 0: no query can choose a distance any more, for only the decay is left."""

    module = "clocks"
