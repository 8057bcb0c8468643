"""The start page: the memory of a Transformer and that of RetNet, as a text is written."""

from refimpl import RetNetConfig
from refimpl.weights import load_pretrained

from .explorable import Explorable

# (dim, num_layers, num_heads) of the paper's models, arXiv:2307.08621v4, section 3.1.
PAPER = {"1.3B": (2048, 24, 8), "2.7B": (2560, 32, 10), "6.7B": (4096, 32, 16)}


class CacheRace(Explorable):
    """To write on, a Transformer keeps a key and a value of each token it has read: the cache. RetNet keeps one state. Press
    Play: the cache grows, the state does not. Then let heads share keys, and see how long the state stays the larger."""

    module = "cache"

    @classmethod
    def configs(cls):
        """{name: RetNetConfig} of the models to choose from."""
        paper = {
            name: RetNetConfig(dim=dim, num_layers=layers, num_heads=heads)
            for name, (dim, layers, heads) in PAPER.items()
        }
        return {"ours": load_pretrained()[1]} | paper

    @classmethod
    def course_data(cls):
        """Width, depth and heads of each model, by name."""
        return {
            "sizes": {
                name: {
                    "dim": config.dim,
                    "layers": config.num_layers,
                    "heads": config.num_heads,
                    "key_dim": config.key_dim,
                    "value_dim": config.value_dim,
                }
                for name, config in cls.configs().items()
            }
        }
