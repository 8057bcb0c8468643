"""The baselines: what a user would choose instead of RetNet, at the same width, depth and number of parameters.

Each is a residual language model with one mixer of `gpu.models.registry` in every block, or attention in every second or
fourth of them: a hybrid. Feed-forward, norms (RMSNorm) and
output head are those of RetNet; the inner width of the feed-forward makes the numbers of parameters equal.
"""

import dataclasses
import json
import math
import operator
from contextlib import suppress
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from refimpl.checks import check_choice, check_integer
from refimpl.config import FEED_FORWARDS, RetNetConfig
from refimpl.files import write_atomically
from refimpl.model import DEVIATION, INITIALISATIONS, param_shapes
from refimpl.training.settings import check_fields
from refimpl.tree import flatten

from .operations import TORCH
from .registry import DECAYS, MODELS
from .retention import start_decay

MIXERS = {name: model.load_mixer() for name, model in MODELS.items() if model.mixer}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """A baseline's shape; refuses impossible ones with a ValueError or TypeError.

    mixer: "transformer", "linear", "gru", "retention" or "gated". attention_every: 2 puts the transformer's mixer into every
    second layer in its place, and so on. dim, num_layers: width and depth. num_heads, kv_heads: of attention; each head of
    keys and values serves num_heads / kv_heads heads of queries. ffn_dim: inner width of the feed-forward; ffn: its kind, as
    in `RetNetConfig`. key_dim, value_dim, gamma_schedule, rotation: of retention, as there. decays: "learnt" trains those of
    the schedule.
    """

    mixer: str = "transformer"
    vocab_size: int = 256
    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    kv_heads: int | None = None
    ffn_dim: int = 344
    ffn: str = "swiglu"
    norm_eps: float = 1e-6
    attention_every: int | None = None
    key_dim: int | None = None
    value_dim: int | None = None
    gamma_schedule: str = "released"
    rotation: str | None = "released"
    decays: str = "fixed"

    def __post_init__(self):
        check_fields(self)
        check_choice("mixer", self.mixer, tuple(MIXERS))
        check_choice("decays", self.decays, DECAYS)
        check_choice("ffn", self.ffn, FEED_FORWARDS)
        if self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.num_heads)
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "kv_heads", "ffn_dim"):
            check_integer(name, getattr(self, name), minimum=1)
        if self.mixer == "linear" and self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of num_heads = {self.num_heads}, got {self.dim}")
        if self.attention_every is not None:
            check_integer("attention_every", self.attention_every, minimum=2)
            if self.mixer == "transformer" or self.attention_every > self.num_layers:
                raise ValueError(
                    f"attention_every must be left out of attention alone, and at most num_layers = {self.num_layers}, got "
                    f"{self.attention_every}"
                )
        if "transformer" in self.mixers:
            if self.dim % (2 * self.num_heads):
                raise ValueError(f"dim must be a multiple of 2 num_heads = {2 * self.num_heads}, got {self.dim}")
            if self.num_heads % self.kv_heads:
                raise ValueError(f"kv_heads must divide num_heads = {self.num_heads}, got {self.kv_heads}")
        if self.mixer in ("retention", "gated"):
            _ = self.retention  # raises for an impossible one

    @property
    def mixers(self):
        """The name of each layer's mixer."""
        every = self.attention_every or self.num_layers + 1
        return tuple(self.mixer if number % every else "transformer" for number in range(1, self.num_layers + 1))

    @property
    def retention(self):
        """The `RetNetConfig` of a layer of retention."""
        names = ("dim", "num_heads", "key_dim", "value_dim", "gamma_schedule", "rotation", "norm_eps")
        choices = {name: getattr(self, name) for name in names}
        with suppress(ValueError):  # one gamma for all heads, as text
            choices["gamma_schedule"] = float(self.gamma_schedule)
        return RetNetConfig(**choices)


class Memory(NamedTuple):
    """What decoding continues from: how many tokens there were, and what each layer keeps of them."""

    position: int
    layers: tuple


class RMSNorm(nn.RMSNorm):
    """The norm of RetNet: under autocast its result has autocast's dtype."""

    def forward(self, x):
        """(..., d) -> (..., d)."""
        return TORCH.rms_norm(x, self.weight, eps=self.eps)


class FeedForward(nn.Module):
    """(f(x W_1) * x W_gate) W_2, or f(x W_1) W_2 without a gate; config.ffn: one of `FEED_FORWARDS`."""

    def __init__(self, config):
        super().__init__()
        self.w_1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        activation, gated = FEED_FORWARDS[config.ffn]
        self.w_gate = nn.Linear(config.dim, config.ffn_dim, bias=False) if gated else None
        self.activation = getattr(TORCH, activation)
        self.w_2 = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x):
        """(B, T, d) -> (B, T, d)."""
        inner = self.activation(self.w_1(x))
        return self.w_2(inner if self.w_gate is None else inner * self.w_gate(x))


class Block(nn.Module):
    """Y = mixer(RMSNorm(X)) + X, then FFN(RMSNorm(Y)) + Y; mixer: a name of `MIXERS`."""

    def __init__(self, config, mixer):
        super().__init__()
        self.mixer_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.mixer = MIXERS[mixer](config)
        self.ffn_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(self, x, shared, position=0, memory=None):
        """(B, T, d) and what the layer keeps -> the same; shared: what the mixer's `shared` computed for all layers."""
        mixed, memory = self.mixer(self.mixer_norm(x), shared, position, memory)
        y = x + mixed
        return y + self.ffn(self.ffn_norm(y)), memory


class Baseline(nn.Module):
    """A language model of a `BaselineConfig`, its parameters drawn with `seed`; None: the caller initialises them.

    initialisation: one of `refimpl.model.INITIALISATIONS`; the default has what "depth" adds to that of a RetNet.
    """

    def __init__(self, config, seed=0, initialisation="default"):
        super().__init__()
        check_choice("initialisation", initialisation, INITIALISATIONS)
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config, mixer) for mixer in config.mixers)
        self.final_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            for name, weight in self.named_parameters():
                _draw(name, weight, config, generator, initialisation)

    def memory(self, batch, capacity, dtype=None):
        """An empty `Memory` for `batch` texts of up to `capacity` tokens, allocated at once."""
        like = self.head.weight
        kept = (layer.mixer.memory(batch, capacity, dtype or like.dtype, like.device) for layer in self.layers)
        return Memory(0, tuple(kept))

    def forward(self, tokens, memory=None, *, layer=operator.call):
        """Logits of the next token at every position.

        Args:
            tokens: (B, T) int64.
            memory: the `Memory` to continue from, which may be overwritten, so do not use it again; None to keep none.
            layer: called as layer(block, ...) in place of block(...), such as `gpu.numerics.layer_caller` makes.

        Returns:
            logits (B, T, vocab_size), and the `Memory` after the last token, None if none was given.

        Raises:
            ValueError: the text would be longer than the capacity of the memory.
        """
        position, kept = memory or (0, (None,) * len(self.layers))
        x, after = self.embedding(tokens), []
        mixers, span = self.config.mixers, (position, tokens.shape[1])
        shared = {name: MIXERS[name].shared(self.config, *span, x.device) for name in set(mixers)}
        for name, block, before in zip(mixers, self.layers, kept, strict=True):
            x, each = layer(block, x, shared[name], position, before)
            after.append(each)
        logits = self.head(self.final_norm(x))
        return logits, memory and Memory(position + tokens.shape[1], tuple(after))

    def save(self, path):
        """Write weights and config as one safetensors file, atomically."""
        metadata = {"baseline": json.dumps(dataclasses.asdict(self.config))}
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.state_dict().items()}
        write_atomically(path, safetensors.torch.save(weights, metadata))

    @classmethod
    def load(cls, path, device="cpu"):
        """Read a model that `save` wrote; ValueError for a file of something else."""
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "baseline" not in metadata:
                raise ValueError(f"path must be a file that a baseline saved; {str(path)!r} holds something else")
            model = cls(BaselineConfig(**json.loads(metadata["baseline"])))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return model.to(device)


def _draw(name, weight, config, generator, initialisation):
    """Draw a weight: normal with deviation inputs^-0.5, times (2 layers)^-0.5 if added to the residual stream.

    Queries and keys are half as large, so that attention starts almost uniform. Biases are 0, weights of norms 1, learnt
    decays those of their schedule. "normal": every matrix has the deviation 0.02.
    """
    if name.endswith("mixer.decay"):
        start_decay(weight, config)
        return
    if weight.ndim == 1:
        nn.init.constant_(weight, 0.0 if "bias" in name else 1.0)
        return
    deviation = weight.shape[1] ** -0.5
    if name.endswith(("w_o.weight", "w_2.weight")):
        deviation *= (2 * config.num_layers) ** -0.5
    if name.endswith(("w_q.weight", "w_k.weight")):
        deviation *= 0.5
    if initialisation == "normal":
        deviation = DEVIATION
    nn.init.normal_(weight, std=deviation, generator=generator)


def matched(config, retnet):
    """The `BaselineConfig` with the feed-forward width that gives it as many parameters as a `RetNetConfig` has.

    Products are fastest at widths that are multiples of 64, then of 8; the first of these within 1 % is taken, of the
    parameters without embedding and head, which both models have alike.

    Raises:
        ValueError: the mixer alone has more parameters.
    """
    wanted = retnet_parameters(retnet)
    layers = wanted - 2 * retnet.vocab_size * retnet.dim
    counts = [parameters(dataclasses.replace(config, ffn_dim=width)) for width in (1, 2)]
    return dataclasses.replace(
        config, ffn_dim=inner_width(counts, wanted, layers, f"{config.mixer} and dim = {config.dim}")
    )


def inner_width(counts, wanted, layers, what):
    """The width of the feed-forward with which a model has `wanted` parameters, within 1 % of `layers`.

    counts: its parameters at the widths 1 and 2. what: the model, for the message of the ValueError that `matched` has.
    """
    one, two = counts
    exact = 1 + (wanted - one) / (two - one)
    for multiple in (64, 8, 1):
        width = multiple * round(exact / multiple)
        if width >= 1 and abs(width - exact) * (two - one) <= 0.01 * layers:
            return width
    raise ValueError(
        f"dim must leave room for a feed-forward: with {what} there are {one:,} parameters before it, and RetNet has {wanted:,}"
    )


def parameters(config):
    """How many parameters a baseline has, without allocating them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in Baseline(config, seed=None).parameters())


def retnet_parameters(config):
    """How many parameters the RetNet of a `RetNetConfig` has."""
    return sum(math.prod(shape) for shape in flatten(param_shapes(config)).values())
