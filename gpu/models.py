"""The models that can be trained: RetNet and its baselines."""

from .baseline import Baseline, BaselineConfig, matched
from .module import RetNet


def build(config):
    """The model of a `RunConfig`, on the CPU; baselines have as many parameters as the RetNet, within 1 %."""
    if config.model == "retnet":
        return RetNet(config.retnet, seed=config.seed)
    shape = BaselineConfig(
        mixer=config.model,
        vocab_size=config.vocab_size,
        dim=config.dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        kv_heads=config.kv_heads,
    )
    return Baseline(matched(shape, config.retnet), seed=config.seed)
