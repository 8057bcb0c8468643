"""The models that can be trained: RetNet and its baselines. Torch is imported when one is built."""

from ..kernels.registry import RETENTIONS


def build(config):
    """The model of a `RunConfig`, on the CPU; baselines have as many parameters as the RetNet, within 1 %."""
    model = _kind(config)(_shape(config), seed=config.seed, initialisation=config.initialisation)
    if config.model == "retention":
        retention = RETENTIONS[config.retention](
            config.chunk_size
        )  # one for all layers, or each would be compiled anew
        for layer in model.layers:
            layer.mixer.retention = retention  # attention does not look at it
    return model


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
    names = (
        "vocab_size", "dim", "num_layers", "num_heads", "kv_heads", "ffn", "attention_every", "key_dim", "value_dim",
        "gamma_schedule", "decays",
    )  # fmt: skip
    shape = {name: getattr(config, name) for name in names} | {"rotation": config.retnet.rotation}
    return matched(BaselineConfig(mixer=config.model, **shape), config.retnet)


def numbers_kept(config, context):
    """How many numbers the model of a `RunConfig` keeps of a text of `context` tokens: states, caches, or both.

    RetNet keeps H K V a layer at any context, attention 2 dim a token and layer (of all heads).
    """
    if config.model == "retnet":
        shape = config.retnet
        return shape.num_layers * shape.num_heads * shape.key_dim * shape.value_dim
    import torch

    with torch.device("meta"):
        memory = _kind(config)(_shape(config), seed=None).memory(1, context)
    return sum(x.numel() for x in tensors(memory))


def tensors(past):
    """All tensors of a `State` or `Memory`."""
    return [x for layer in past.layers for x in (layer if isinstance(layer, tuple) else (layer,))]
