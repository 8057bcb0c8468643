"""The models that can be trained: RetNet and its baselines. Torch is imported when one is built."""


def build(config):
    """The model of a `RunConfig`, on the CPU; baselines have as many parameters as the RetNet, within 1 %."""
    return _kind(config)(_shape(config), seed=config.seed)


def build_random(config, device, dtype):
    """The same model with other random weights, drawn on the device: to measure what does not depend on the weights.

    Nothing passes through NumPy or float64, so billions of parameters are drawn fast. Matrices are normal with deviation
    dim^-0.5, vectors are 1.
    """
    import torch

    with torch.device("meta"):
        model = _kind(config)(_shape(config), seed=None)
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0) if weight.ndim == 1 else weight.normal_(std=config.dim**-0.5)
    return model


def _kind(config):
    """The class of a `RunConfig`'s model."""
    from .baseline import Baseline
    from .retnet import RetNet

    return RetNet if config.model == "retnet" else Baseline


def _shape(config):
    """The `RetNetConfig` or `BaselineConfig` of a `RunConfig`'s model."""
    from .baseline import BaselineConfig, matched

    if config.model == "retnet":
        return config.retnet
    names = ("vocab_size", "dim", "num_layers", "num_heads", "kv_heads", "ffn")
    shape = BaselineConfig(mixer=config.model, **{name: getattr(config, name) for name in names})
    return matched(shape, config.retnet)
