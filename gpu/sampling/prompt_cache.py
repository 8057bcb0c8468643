"""The state after a prompt as a file, whose size does not depend on the length of the prompt.

The file is safetensors: position (B,), logits (B, vocab) and layers.0 ... (B, H, K, V). Its metadata hold the config and
a digest of every weight, because a state is useless to another model.
"""

import dataclasses
import hashlib
import json

import safetensors
import safetensors.torch
import torch

from refimpl import State
from refimpl.files import write_atomically

from .generate import Past


def save_past(path, past, model):
    """Write a `Past` of a `gpu.models.retnet.RetNet` atomically."""
    tensors = {"position": past.state.position, "logits": past.logits}
    tensors |= {f"layers.{i}": layer for i, layer in enumerate(past.state.layers)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"config": json.dumps(dataclasses.asdict(model.config)), "weights": json.dumps(digests(model))}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_past(path, model):
    """Read a `Past` onto the model's device.

    Raises FileNotFoundError, or ValueError for a file that is not a state or is of another model; it names what differs.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"state must be a safetensors file; {str(path)!r} is not one: {error}") from None
    names = ["position", "logits", *(f"layers.{i}" for i in range(model.config.num_layers))]
    if not {"config", "weights"} <= metadata.keys():
        raise ValueError(f"state must be a file that save_past wrote; {str(path)!r} holds no state of a model")
    theirs, ours = _json(path, metadata["config"]), dataclasses.asdict(model.config)
    if other := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
        what = ", ".join(f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in other)
        raise ValueError(f"state must be of this model; {str(path)!r} is of another: {what}")
    theirs, ours = _json(path, metadata["weights"]), digests(model)
    if other := [name for name in ours if theirs.get(name) != ours[name]]:
        what = f"{len(other)} of {len(ours)} differ, first {other[0]}"
        raise ValueError(f"state must be of this model; {str(path)!r} is of other weights: {what}")
    if lacking := [name for name in names if name not in tensors]:
        raise ValueError(f"state must be a file that save_past wrote; {str(path)!r} lacks {lacking[0]}")
    device = next(model.parameters()).device
    position, logits, *layers = (tensors[name].to(device) for name in names)
    return Past(State(position, tuple(layers)), logits)


def _json(path, text):
    """A dict in a file's metadata."""
    try:
        found = json.loads(text)
        assert isinstance(found, dict)
    except (ValueError, AssertionError, RecursionError):
        raise ValueError(f"state must be a file that save_past wrote; {str(path)!r} has damaged metadata") from None
    return found


def digests(model):
    """{name of a weight: digest of its dtype, shape and bytes}."""
    return {name: _digest(weight.detach()) for name, weight in model.named_parameters()}


def _digest(tensor):
    data = tensor.cpu().contiguous().view(torch.uint8).numpy()  # as bytes, because NumPy has no bfloat16
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=8)
    digest.update(data)
    return digest.hexdigest()
