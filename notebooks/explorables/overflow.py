"""Lesson 5: how the decay mask breaks in float32."""

from .explorable import Explorable


class Overflow(Explorable):
    """Three ways to compute one mask, the same on paper. In float32 the first breaks: γ^−m grows beyond the largest number, and
    the outputs of all later tokens are lost. Make T shorter until it works, then try the other two ways."""

    module = "overflow"
