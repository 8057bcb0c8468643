"""The shape of a model, and every choice in which the paper, its ablations and the released code differ."""

from dataclasses import dataclass
from typing import NamedTuple

from .checks import check_choice, check_integer, check_key_dim, check_number
from .decay import check_schedule
from .rotation import LADDERS

GROUP_NORMS = ("rms", "mean", None)
SCORE_NORMS = (None, "sum", "absolute")


class FeedForward(NamedTuple):
    """A kind of feed-forward: the name of its activation, and whether x W_gate multiplies the activated x W_1."""

    activation: str  # a field of `refimpl.layers.Operations` and a key of `refimpl.backward.ACTIVATIONS`
    gated: bool


FEED_FORWARDS = {
    "swiglu": FeedForward("swish", gated=True),
    "geglu": FeedForward("gelu", gated=True),
    "gelu": FeedForward("gelu", gated=False),
}


@dataclass(frozen=True, kw_only=True)
class RetNetConfig:
    """A model's shape; a ValueError or TypeError names what is impossible.

    Args:
        vocab_size: tokens the model knows.
        dim, num_layers, num_heads: width d, depth, heads H.
        key_dim, value_dim: widths of one head, K (even) and V; by default d / H and 2 K.
        ffn_dim: inner width of the feed-forward, by default 2 d.
        gamma_schedule: "released", "paper", "quarter", or one gamma for all heads (see `head_decays`); 1.0 is no decay.
        rotation: "released", "rotary" (see `rotate`) or None.
        gate: whether the output of retention is multiplied by swish(X W_G) (Eq. 8).
        group_norm: "rms", a root mean square a head as in the released code; "mean", which also subtracts the mean, as
            GroupNorm does; or None.
        group_norm_affine: whether that norm has a weight (V,), shared by the heads, as in flash-linear-attention.
        ffn: "swiglu" (swish(x W_1) * x W_gate) W_2, the released recipe; "geglu", the same with gelu, torchscale's
            default; "gelu" gelu(x W_1) W_2, the paper.
        scale_keys: whether k is multiplied by K^-1/2.
        row_norm: whether outputs are divided by the root of the row sums of D; exact in every form.
        score_norm: "sum" also divides by max(|sum_m R_nm|, 1), as the paper and torchscale 0.3.0 do, "absolute" by
            max(sum_m |R_nm|, 1), as later code does; only the parallel form has it.
        embedding_scale: embeddings are multiplied by it.
        norm_eps: eps of every norm.

    >>> RetNetConfig(dim=64, num_heads=4).value_dim
    32
    """

    vocab_size: int = 256
    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    key_dim: int = None  # type: ignore[assignment]  # None is replaced when the config is made, here and below
    value_dim: int = None  # type: ignore[assignment]
    ffn_dim: int = None  # type: ignore[assignment]
    gamma_schedule: str | float = "released"
    rotation: str | None = "released"
    gate: bool = True
    group_norm: str | None = "rms"
    group_norm_affine: bool = False
    ffn: str = "swiglu"
    scale_keys: bool = True
    row_norm: bool = False
    score_norm: str | None = None
    embedding_scale: float = 1.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "num_layers", "num_heads"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), minimum=1))
        if self.key_dim is None:
            if self.dim % self.num_heads:
                raise ValueError(
                    f"dim must be a multiple of num_heads = {self.num_heads} unless key_dim is given, got {self.dim}"
                )
            object.__setattr__(self, "key_dim", self.dim // self.num_heads)
        object.__setattr__(self, "key_dim", check_key_dim(self.key_dim))
        for name, default in (("value_dim", 2 * self.key_dim), ("ffn_dim", 2 * self.dim)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            object.__setattr__(self, name, check_integer(name, getattr(self, name), minimum=1))
        object.__setattr__(self, "gamma_schedule", check_schedule("gamma_schedule", self.gamma_schedule))
        for name, choices in (
            ("rotation", (*LADDERS, None)),
            ("group_norm", GROUP_NORMS),
            ("ffn", FEED_FORWARDS),
            ("score_norm", SCORE_NORMS),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("gate", "group_norm_affine", "scale_keys", "row_norm"):
            check_choice(name, getattr(self, name), (True, False))
        if self.group_norm_affine and self.group_norm is None:
            raise ValueError("group_norm_affine must be False without a group_norm, got True")
        for name, least in (("norm_eps", 0.0), ("embedding_scale", None)):
            object.__setattr__(self, name, check_number(name, getattr(self, name), least))
