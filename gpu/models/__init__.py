"""The torch RetNet and the models it is compared with."""

from .build import build, build_random

__all__ = ["build", "build_random"]
