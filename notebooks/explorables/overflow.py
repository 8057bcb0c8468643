"""Lesson 5: how the decay mask breaks in float32."""

from .explorable import Explorable


class Overflow(Explorable):
    """Three ways to compute one mask, in float32. Move T until one breaks, then look which tokens are lost."""

    module = "overflow"
