"""The mixer of a model that mixes retention with something else: multi-scale retention (Eq. 8, arXiv:2307.08621v4).

It is `refimpl.layers.multi_scale_retention` with weights of its own. Decays may be learnt: they start at the schedule.
"""

import functools

import torch
from torch import nn

from refimpl import head_decays, retention_chunkwise
from refimpl.layers import multi_scale_retention

from .operations import TORCH

CHUNK_SIZE = 64


class Retention(nn.Module):
    """Retention in `num_heads` heads of `key_dim` and `value_dim`, rotated, normed and gated, for a `BaselineConfig`."""

    retention = staticmethod(functools.partial(retention_chunkwise, chunk_size=CHUNK_SIZE))  # any under the contract

    def __init__(self, config):
        super().__init__()
        self.config = shape = config.retention
        keys, values = shape.num_heads * shape.key_dim, shape.num_heads * shape.value_dim
        self.w_q, self.w_k = (nn.Linear(shape.dim, keys, bias=False) for _ in range(2))
        self.w_v, self.w_g = (nn.Linear(shape.dim, values, bias=False) for _ in range(2))
        self.w_o = nn.Linear(values, shape.dim, bias=False)
        self.decay = nn.Parameter(torch.empty(shape.num_heads)) if config.decays == "learnt" else None

    @staticmethod
    def shared(config, position, time, device):
        """None: each layer turns its queries and keys itself."""

    def memory(self, batch, capacity, dtype, device):
        """The state (B, H, K, V) in float32, whatever the capacity."""
        shape = batch, self.config.num_heads, self.config.key_dim, self.config.value_dim
        return torch.zeros(shape, dtype=torch.promote_types(dtype, torch.float32), device=device)

    def forward(self, x, shared, position=0, memory=None):
        """(B, T, d) and the state, or None for zero -> the same."""
        params = {name: getattr(self, name).weight.mT for name in ("w_q", "w_k", "w_v", "w_g", "w_o")}
        out, after = multi_scale_retention(
            params, x, self.config, retention=self.retaining(x), state=memory, position=position, operations=TORCH
        )
        return out, None if memory is None else after

    def retaining(self, x):
        """The retention for x (B, T, d), under the contract."""
        learnt = None if self.decay is None else self.decay.double().sigmoid()  # near 1 float32 would round it

        def retention(q, k, v, gamma, state=None):
            with torch.autocast(x.device.type, enabled=False):
                return self.retention(q, k, v, gamma if learnt is None else learnt, state)

        return retention


@torch.no_grad()
def start_decay(decay, config):
    """Put learnt decays, the logits of gamma (H,), where the schedule of a `BaselineConfig` has them."""
    gamma = torch.from_numpy(head_decays(config.num_heads, config.retention.gamma_schedule))
    decay.copy_(torch.logit(gamma))
