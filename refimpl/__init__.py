"""Retentive Networks in NumPy and any array-API library: the reference.

The paper is Sun et al., "Retentive Network", arXiv:2307.08621v4.
"""

from .config import RetNetConfig
from .decay import chunk_decays, decay_mask, head_decays
from .layers import multi_scale_retention
from .model import State, decode_step, forward, init_params
from .moved import keep_old_paths
from .retention import retention_chunkwise, retention_parallel, retention_recurrent, retention_step
from .rotation import rotate, rotation_frequencies
from .score_norm import row_sums, score_scale

__version__ = "0.2.0"

__all__ = [
    "RetNetConfig",
    "State",
    "chunk_decays",
    "decay_mask",
    "decode_step",
    "forward",
    "head_decays",
    "init_params",
    "multi_scale_retention",
    "retention_chunkwise",
    "retention_parallel",
    "retention_recurrent",
    "retention_step",
    "rotate",
    "rotation_frequencies",
    "row_sums",
    "score_scale",
]

keep_old_paths(__name__, {
    "benchmark": "bench.forms", "benchmark_steps": "bench.steps", "threads": "compiled.threads",
    "text": "training.text", "bpe": "training.bpe", "loop": "training.loop", "train": "training.train",
})  # fmt: skip
