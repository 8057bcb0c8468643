"""Lesson 2: the powers of a matrix, as they are stored and as the powers of one number."""

from .explorable import Explorable


class Powers(Explorable):
    """A state of two numbers, its channels, gets one push and is then multiplied by the same matrix A at each token. Set the
    radius γ of its eigenvalue a above and below 1, then the angle θ (or drag a), and watch channel 1. Then move "mixing" to
    0: the orange path becomes the blue one, and A becomes a turn that shrinks."""

    module = "powers"
