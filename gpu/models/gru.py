"""The mixer of the recurrent baseline: a gated recurrent unit, as wide as the model."""

import torch
from torch import nn


class GRU(nn.Module):
    """torch's GRU (cuDNN's on a GPU); it loops over time, also in training."""

    def __init__(self, config):
        super().__init__()
        self.gru = nn.GRU(config.dim, config.dim, batch_first=True)

    @staticmethod
    def shared(config, position, time, device):
        """None: the position of a token does not matter."""

    def memory(self, batch, capacity, dtype, device):
        """The hidden state (1, B, d), whatever the capacity."""
        return torch.zeros((1, batch, self.gru.hidden_size), dtype=dtype, device=device)

    def forward(self, x, shared, position=0, memory=None):
        """(B, T, d) and the hidden state, or None for zero -> the same.

        Computed in float32, because autocast would use float16; only x was already rounded by the norm.
        """
        with torch.autocast(x.device.type, enabled=False):
            out, after = self.gru(x.to(self.gru.weight_hh_l0.dtype), memory)
        return out, None if memory is None else after
