"""The models that can be trained: RetNet and its baselines. Torch is imported when one is built."""


def build(config):
    """The model of a `RunConfig`, on the CPU; baselines have as many parameters as the RetNet, within 1 %."""
    from .baseline import Baseline
    from .retnet import RetNet

    kind = RetNet if config.model == "retnet" else Baseline
    return kind(_shape(config), seed=config.seed)


def build_random(config, device, dtype):
    """The same model with other random weights, drawn on the device: for measuring what does not depend on them.

    Nothing passes through NumPy or float64, so that a model of billions of parameters is there at once. Matrices are
    normal with deviation dim^-0.5, vectors 1.
    """
    import torch

    from .baseline import Baseline
    from .retnet import RetNet

    with torch.device("meta"):
        model = RetNet(config.retnet, seed=None) if config.model == "retnet" else Baseline(_shape(config))
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0) if weight.ndim == 1 else weight.normal_(std=config.dim**-0.5)
    return model


def _shape(config):
    """The `RetNetConfig` or `BaselineConfig` of a `RunConfig`'s model."""
    from .baseline import BaselineConfig, matched

    if config.model == "retnet":
        return config.retnet
    shape = BaselineConfig(
        mixer=config.model,
        vocab_size=config.vocab_size,
        dim=config.dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        kv_heads=config.kv_heads,
        ffn=config.ffn,
    )
    return matched(shape, config.retnet)
