"""Folders and files of weights as other libraries write them."""

import functools
import json

import numpy as np
import safetensors.torch
import torch
from their_models import (
    SHAPES,
    TOKENS,
    VOCAB,
    Fla,
    gap,
)

from gpu.models.pickles import unpickle
from refimpl import forward
from refimpl.interop import load_folder

load = functools.partial(load_folder, unpickle=unpickle)  # also where the package is not installed

FLA = Fla()
FLA_JSON = {
    "architectures": ["RetNetForCausalLM"], "model_type": "retnet", "hidden_size": 12, "num_hidden_layers": 2,
    "num_heads": 2, "num_kv_heads": None, "expand_k": 1, "expand_v": 2, "hidden_ratio": 2, "intermediate_size": 10,
    "hidden_act": "swish", "norm_eps": 1e-5, "use_output_gate": True, "elementwise_affine": True, "fuse_norm": True,
    "attn": None, "attn_mode": "chunk", "feature_map": None, "use_short_conv": False, "tie_word_embeddings": False,
    "vocab_size": VOCAB, "torch_dtype": "float32", "transformers_version": "4.40.2", "bos_token_id": 1, "use_cache": True,
    "clamp_min": None, "use_gk": False,
}  # fmt: skip


def tensors(state_dict, dtype=torch.float32):
    return {key: torch.as_tensor(value).to(dtype).clone() for key, value in state_dict.items()}


def fla_folder(path, settings=(), weights=(), dtype=torch.float32):
    """A folder of flash-linear-attention's with changes of its settings and weights; None takes one out."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(without_none(FLA_JSON, dict(settings))))
    state_dict = without_none(tensors(FLA.state_dict(), dtype), dict(weights))
    safetensors.torch.save_file(state_dict, path / "model.safetensors", {"format": "pt"})
    return path


OUT = object()


def without_none(known, changes):
    return {key: value for key, value in (known | changes).items() if value is not OUT}


def fla_logits(eps, dtype=torch.float32):
    """Of the literal loop, with weights rounded to dtype."""
    state_dict = {key: value.double().numpy() for key, value in tensors(FLA.state_dict(), dtype).items()}
    return np.stack([FLA.logits(state_dict, sentence, eps) for sentence in TOKENS])


def assert_gives(model, want, tolerance=1e-5):
    params, config = model
    assert gap(forward(params, TOKENS, config)[0], want) < tolerance


SWISH, SCALED = SHAPES[2], SHAPES[1]


def shards(path, state_dict, name="model.safetensors"):
    """Two files and their index."""
    stem, suffix = name.rsplit(".", 1)
    halves = {f"{stem}-0000{n}-of-00002.{suffix}": dict(list(state_dict.items())[n - 1 :: 2]) for n in (1, 2)}
    for file, half in halves.items():
        torch.save(half, path / file) if suffix == "bin" else safetensors.torch.save_file(half, path / file)
    weight_map = {key: file for file, half in halves.items() for key in half}
    index = path / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index
