"""RetNet as a torch module: it holds the parameters and calls `refimpl.model.forward`.

There is no second forward pass: the reference itself is trained, on torch tensors. Under torch.autocast its matrix products
are computed in the narrower dtype. Parameters, decays, the residual stream and the state stay in float32, because the
retention runs without autocast and the reference widens everything else itself. Norms are computed in float32 and rounded
once, for all the products that follow.
"""

import operator

import numpy as np
import torch
from torch import nn

from refimpl import RetNetConfig, forward, init_params, retention_parallel
from refimpl.model import block, param_shapes
from refimpl.tree import flatten, map_tree
from refimpl.weights import load_params, save_params, unflatten

from ..numerics import without_autocast
from .operations import TORCH


class RetNet(nn.Module):
    """The language model of `refimpl.model` with trainable parameters.

    Args:
        config: a `RetNetConfig`.
        seed: of `init_params`, so that NumPy and torch start from the same numbers; None: the caller initialises them.
        dtype: torch dtype of the parameters.
        initialisation: of `init_params`.
    """

    def __init__(
        self,
        config: RetNetConfig,
        seed: int | None = 0,
        dtype: torch.dtype = torch.float32,
        initialisation: str = "default",
    ):
        super().__init__()
        self.config = config
        if seed is None:
            _hold(self, map_tree(lambda _, shape: torch.empty(shape), param_shapes(config)), dtype)
        else:
            _hold(self, init_params(config, seed, np.float64, initialisation), dtype)

    def params(self):
        """The nested dict of parameters that `refimpl.model.forward` takes."""
        return _tree(self)

    def forward(self, tokens, *, retention=retention_parallel, state=None, layer=operator.call, **sequences):
        """Logits (B, T, vocab_size) and `State`; see `refimpl.model.forward` for everything else.

        sequences: its lengths, cu_seqlens, max_length and padding.
        layer: called as layer(module, ...) in place of module(...) for each layer, such as `gpu.numerics.layer_caller`
        makes.
        """
        if tokens.device.type != "meta" and torch.is_autocast_enabled(tokens.device.type):
            retention = without_autocast(retention)
        params = dict(self.named_parameters(recurse=False)) | {"layers": self.layers}
        return forward(
            params, tokens, self.config, retention=retention, state=state, layer=layer, operations=TORCH, **sequences
        )

    def save(self, path):
        """Write weights and config as one safetensors file, atomically; `refimpl.weights.load_params` reads it too."""
        weights = {name: weight.detach().cpu().numpy() for name, weight in self.state_dict().items()}
        save_params(path, unflatten(weights, self.config), self.config)

    @classmethod
    def load(cls, path, device="cpu"):
        """Read a model that `save` or `refimpl.weights.save_params` wrote; errors as `load_params`."""
        return cls.holding(*load_params(path), device)

    @classmethod
    def holding(cls, params, config, device="cpu"):
        """The module of NumPy parameters, in their dtype."""
        weights = {name: torch.from_numpy(weight) for name, weight in flatten(params).items()}
        model = cls(config, dtype=weights["embedding"].dtype, seed=None).to(device)
        model.load_state_dict(weights)
        return model


class Layer(nn.Module):
    """One layer's parameters, and a forward of their own."""

    def forward(self, *args, **kwargs):
        """`refimpl.model.block` with these parameters."""
        return block(_tree(self), *args, **kwargs)


def _hold(module, tree, dtype):
    """Register nested dicts and lists of arrays on `module`, so that torch sees the parameters."""
    for name, branch in tree.items():
        if isinstance(branch, (np.ndarray, torch.Tensor)):
            module.register_parameter(name, nn.Parameter(torch.as_tensor(branch, dtype=dtype)))
        elif isinstance(branch, list):
            module.register_module(name, nn.ModuleList(_hold(Layer(), twig, dtype) for twig in branch))
        else:
            module.register_module(name, _hold(nn.Module(), branch, dtype))
    return module


def _tree(module):
    """The inverse of `_hold`: nested dicts and lists of the parameters themselves."""
    if isinstance(module, nn.ModuleList):
        return [_tree(child) for child in module]
    return dict(module.named_parameters(recurse=False)) | {
        name: _tree(child) for name, child in module.named_children()
    }
