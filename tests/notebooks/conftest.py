"""Tokens to draw."""

import numpy as np
import pytest


@pytest.fixture
def tokens():
    """q, k (5, 3) and v (5, 2)."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
