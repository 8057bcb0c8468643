"""The defaults a caller relies on, written out: changing one changes what every program that leaves it out computes."""

import inspect

import numpy as np
import pytest

import refimpl
from refimpl import backward, interop, layers, model, replay
from refimpl.compiled import kernels
from refimpl.training import bpe, loop, text, train


def test_config():
    """The released recipe; key_dim, value_dim and ffn_dim follow from the others."""
    assert vars(refimpl.RetNetConfig()) == {
        "vocab_size": 256, "dim": 128, "num_layers": 4, "num_heads": 4, "key_dim": 32, "value_dim": 64, "ffn_dim": 256,
        "gamma_schedule": "released", "rotation": "released", "gate": True, "group_norm": "rms",
        "group_norm_affine": False, "ffn": "swiglu", "scale_keys": True, "row_norm": False, "score_norm": None,
        "embedding_scale": 1.0, "norm_eps": 1e-6,
    }  # fmt: skip


def test_train_config():
    """A run of a few minutes on a CPU."""
    assert vars(train.TrainConfig()) == {
        "corpus": "kjv", "task": None, "pairs": (), "curriculum": 0.0, "once": False, "from_weights": None,
        "vocab_size": 256, "dim": 128, "num_layers": 2, "num_heads": 4,
        "key_dim": None, "value_dim": None, "ffn_dim": None, "gamma_schedule": "released", "rotation": "released",
        "gate": True, "group_norm": "rms", "group_norm_affine": False, "ffn": "swiglu", "scale_keys": True,
        "row_norm": False, "embedding_scale": 1.0, "norm_eps": 1e-6, "steps": 900, "batch_size": 16, "window": 64,
        "learning_rate": 5e-3, "warmup": 50, "weight_decay": 0.05, "clip": 1.0, "evaluate_every": 100,
        "sample_bytes": 400, "prompt": "And the LORD said unto", "seed": 0, "initialisation": "default",
    }  # fmt: skip


RETENTION = {"state": None}
LENGTHS = {"lengths": None, "cu_seqlens": None, "max_length": None, "padding": "right"}
GRADIENTS = {"state": None, "grad_state": None}
LAYER = {"retention": refimpl.retention_parallel, "state": None, "record": None}
DEFAULTS = {
    refimpl.retention_parallel: RETENTION | LENGTHS,
    refimpl.retention_recurrent: RETENTION | LENGTHS,
    refimpl.retention_step: RETENTION,
    refimpl.retention_chunkwise: RETENTION | LENGTHS | {"chunk_size": 64},
    kernels.retention_recurrent_numba: RETENTION | LENGTHS,
    kernels.retention_step_numba: RETENTION,
    kernels.retention_chunkwise_numba: RETENTION | LENGTHS | {"chunk_size": 64},
    backward.retention_parallel_backward: GRADIENTS | LENGTHS,
    backward.retention_recurrent_backward: GRADIENTS | LENGTHS,
    backward.retention_chunkwise_backward: GRADIENTS | LENGTHS | {"chunk_size": 64},
    kernels.retention_recurrent_backward_numba: GRADIENTS | LENGTHS,
    kernels.retention_chunkwise_backward_numba: GRADIENTS | LENGTHS | {"chunk_size": 64},
    refimpl.head_decays: {"schedule": "released", "log": False, "device": None},
    refimpl.decay_mask: {"rows": None},
    refimpl.rotation_frequencies: {"ladder": "released", "device": None},
    refimpl.rotate: {"offset": 0, "ladder": "released"},
    refimpl.row_sums: {"position": 0},
    refimpl.score_scale: {"row_norm": False},
    refimpl.init_params: {"seed": 0, "dtype": np.float32, "initialisation": "default"},
    refimpl.multi_scale_retention: LAYER | {"position": 0, "phases": None},
    model.block: LAYER | {"position": 0, "phases": None},
    refimpl.forward: LAYER | LENGTHS,
    refimpl.decode_step: {"state": None, "retention": refimpl.retention_step},
    replay.retention_replay: RETENTION | {"length": 16},
    replay.replay_traffic: {"length": None, "tokens": 1, "itemsize": 4, "state_itemsize": 4},
    layers.feed_forward: {"kind": "swiglu", "record": None},
    layers.rms_norm: {"weight": None, "eps": 1e-6},
    interop.from_torchscale: {
        "num_heads": None, "activation": "gelu", "embedding_scale": 1.0, "norm_eps": 1e-6, "score_norm": None,
        "shared_embedding": False,
    },
    interop.from_fla: {"num_heads": None, "norm_eps": 1e-6, "shared_embedding": False},
    interop.to_fla: {"fuse_norm": True},
    interop.load_folder: {
        "num_heads": None, "activation": None, "embedding_scale": None, "norm_eps": None, "unpickle": None,
    },
    interop.save_folder: {"library": "fla"},
    text.load_corpus: {"source": "kjv", "pattern": "*"},
    text.split_by_book: {"held_out": 0.1, "seed": 0},
    text.consecutive_batches: {"max_windows": None},
    bpe.Tokenizer: {"merges": ()},
    bpe.learn_tokenizer: {"vocab_size": 256},
    loop.evaluate: {"max_windows": 512, "part": "held_out"},
    train.AdamW: {"betas": (0.9, 0.98), "weight_decay": 0.05, "eps": 1e-8},
}  # fmt: skip


@pytest.mark.parametrize("function", DEFAULTS, ids=lambda function: function.__qualname__)
def test_function(function):
    """All defaults but which library, which layer and which operations compute."""
    parameters = inspect.signature(function).parameters.items()
    found = {name: each.default for name, each in parameters if each.default is not inspect.Parameter.empty}
    assert {name: value for name, value in found.items() if name not in ("xp", "layer", "operations")} == DEFAULTS[
        function
    ]
