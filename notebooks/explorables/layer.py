"""Lesson 8: the layer of Eq. 8 as a diagram, with the numbers of a very small one."""

import numpy as np

from refimpl import RetNetConfig, head_decays, rotation_frequencies
from refimpl.model import param_shapes

from .explorable import Explorable


class LayerDiagram(Explorable):
    """One layer of retention (Eq. 8 of the paper), small enough to show all its numbers; beside each arrow stands the shape of
    what goes along it. Press Play to walk through it; then choose the recurrent form, and see which rows are left. At the
    norm let one form divide and the other not, and move ε: when are they still one function?"""

    module = "layer"
    config = RetNetConfig(dim=4, num_layers=1, num_heads=2, key_dim=2, value_dim=4)

    @classmethod
    def course_data(cls):
        """X (5, 4), the five matrices of the layer, its decays and its angles."""
        rng, config = np.random.default_rng(8), cls.config
        shapes = param_shapes(config)["layers"][0]["retention"]
        weights = {name: (0.5 * rng.normal(size=shape)).round(1).tolist() for name, shape in shapes.items()}
        return weights | {
            "x": rng.normal(size=(5, config.dim)).round(1).tolist(),
            "gammas": head_decays(config.num_heads, config.gamma_schedule).tolist(),
            "theta": rotation_frequencies(config.key_dim, config.rotation).tolist(),
        }
