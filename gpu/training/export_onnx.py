"""Export a model as two ONNX graphs, for programs without torch: one reads a prompt, one continues it by a token.

    prefill.onnx   tokens (B, T) int64 -> logits (B, T, vocab) float32, next_state (L, B, H, K, V) float32
    decode.onnx    token (B,) int64, state (L, B, H, K, V), position (B,) int64 -> logits (B, vocab), next_state

B and T are free. state holds all L layers; position is the number of tokens that a sequence has had, which the rotation of
queries and keys depends on: T after the prompt, and one more after each token. The prompt is read in the parallel form, in
memory that grows with T squared. Metadata: config (JSON), gamma (JSON, one decay a head) and vocabulary (JSON: the merges of
`refimpl.training.bpe`, token 256 + i each; the first 256 tokens are the bytes; null for tokens that are not ours).
"""

import dataclasses
import io
import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from refimpl import State, head_decays, retention_step
from refimpl.files import write_atomically
from refimpl.libraries import values_trusted

from ..numerics import share

NEEDED = ("onnx", "onnxscript", "onnxruntime")
LIMIT = 2**31  # bytes of a protobuf, which a file of ONNX is
TOLERANCE = 1e-4  # of the largest logit


def export_onnx(model, tokenizer, out):
    """Write `out`/prefill.onnx and `out`/decode.onnx, atomically, after both gave torch's logits; returns the paths.

    Args:
        model: a `gpu.models.retnet.RetNet`; other dtypes than float32 are widened.
        tokenizer: its `refimpl.training.bpe.Tokenizer`, or None if its tokens are not ours.
        out: a folder.

    Raises:
        ModuleNotFoundError: a package is missing.
        ValueError: the model has a score_norm, which only the parallel form has; or it is too large for a file of ONNX.
        AssertionError: onnxruntime gives other logits than torch.
    """
    for name in NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"--onnx needs {name}: pip install 'retnet-reference[onnx]'")
    if model.config.score_norm is not None:
        raise ValueError(f"run must have no score_norm to be exported to ONNX, got {model.config.score_norm!r}")
    if (size := 4 * sum(weight.numel() for weight in model.parameters())) >= LIMIT:
        raise ValueError(f"run must have weights of less than {LIMIT:,} bytes in float32 for ONNX, got {size:,}")
    model = model.to("cpu", torch.float32)
    batch, length = (torch.export.Dim(name, min=1) for name in ("batch", "time"))
    tokens, position = torch.zeros((2, 3), dtype=torch.int64), torch.full((2,), 3)
    shape = model.config
    state = torch.zeros((shape.num_layers, 2, shape.num_heads, shape.key_dim, shape.value_dim))
    graphs = {
        "prefill": _graph(Prefill(model), {"tokens": tokens}, {"tokens": {0: batch, 1: length}}),
        "decode": _graph(
            Decode(model),
            {"token": tokens[:, 0], "state": state, "position": position},
            {"token": {0: batch}, "state": {1: batch}, "position": {0: batch}},
        ),
    }
    metadata = {
        "config": json.dumps(dataclasses.asdict(model.config)),
        "gamma": json.dumps(head_decays(shape.num_heads, shape.gamma_schedule).tolist()),
        "vocabulary": json.dumps(tokenizer and {"merges": tokenizer.merges}),
    }
    files = {name: _as_bytes(graph, metadata) for name, graph in graphs.items()}
    _assert_same(model, files)
    paths = [Path(out) / f"{name}.onnx" for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        write_atomically(path, data)
    return paths


class Prefill(nn.Module):
    """tokens (B, T) -> logits (B, T, vocab), state (L, B, H, K, V)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        """See the class."""
        logits, state = self.model(tokens, retention=retention_of_any_length)
        return logits, torch.stack(state.layers)


class Decode(nn.Module):
    """token (B,), state (L, B, H, K, V), position (B,) -> logits (B, vocab), state (L, B, H, K, V)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, token, state, position):
        """See the class."""
        before = State(position, tuple(state.unbind(0)))
        logits, after = self.model(token[:, None], retention=retention_step, state=before)
        return logits[:, 0], torch.stack(after.layers)


def retention_of_any_length(q, k, v, gamma, state=None):
    """`refimpl.retention_parallel` without a state, traced for a T that is not known yet (Eq. 5)."""
    assert state is None
    n = torch.arange(q.shape[2], dtype=torch.float64)
    lag = n[:, None] - n[None, :]
    powers = gamma[:, None, None] ** lag.clamp(min=0)
    mask = torch.where(lag >= 0, powers, 0.0).to(v.dtype)
    left = powers[:, -1, :, None].to(v.dtype)  # of each token at the last one
    return ((q @ k.mT) * mask) @ v, k.mT @ (v * left)


def _graph(module, inputs, dynamic):
    """The ONNX program of a module; its inputs and outputs have the names of the arguments and of what it returns."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    try:
        with values_trusted(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter about itself
            return torch.onnx.export(
                module.eval(), kwargs=inputs, dynamic_shapes=dynamic, dynamo=True, verbose=False, external_data=False,
                input_names=list(inputs), output_names=["logits", "next_state"],
            )  # fmt: skip
    finally:
        log.setLevel(level)


def _as_bytes(program, metadata):
    program.model.metadata_props.update(metadata)
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()


def _assert_same(model, files):
    """Demand that the graphs continue a text as torch does."""
    import onnxruntime

    prefill, decode = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]) for data in files.values()
    )
    tokens = torch.arange(14).reshape(2, 7) % model.config.vocab_size
    with torch.no_grad():
        wanted = model(tokens)[0].numpy()
    logits, state = prefill.run(None, {"tokens": tokens[:, :4].numpy()})
    found = [logits]
    for n in range(4, tokens.shape[1]):
        given = {"token": tokens[:, n].numpy(), "state": state, "position": np.full(2, n)}
        logits, state = decode.run(None, given)
        found.append(logits[:, None])
    apart = share(float(np.abs(np.concatenate(found, axis=1) - wanted).max()), float(np.abs(wanted).max()))
    assert apart < TOLERANCE, f"onnxruntime's logits differ from torch's by {apart:.1e} of the largest"
