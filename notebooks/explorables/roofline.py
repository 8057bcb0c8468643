"""Lesson 11: the three forms under the roof of one core."""

from refimpl.bench.roof import CACHE, recorded

from .explorable import Explorable


class Roofline(Explorable):
    """How fast can each form be, on a core that computes and moves only so much a second? Move C, then keep state and scores
    beside the core, then let Python take its time at each step: which form is the fastest, and what holds it back?

    data: roof, as `refimpl.bench.roof.roof_of` gives it, by default the one on record, cache, the bytes beside the core, and
    whose, the words that say where the roof was measured.
    """

    module = "roofline"

    @classmethod
    def course_data(cls):
        """The roof of the machine on record: what a page without a kernel shows."""
        return {"roof": recorded()["roof"], "cache": CACHE, "whose": "on record"}

    @classmethod
    def under(cls, roof, **values):
        """The picture under another roof, such as one just measured."""
        return cls(data={"roof": roof, "cache": CACHE, "whose": "just measured"}, **values)
