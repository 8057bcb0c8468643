"""Models of other libraries to compare with: the authors' torchscale 0.3.0 itself, and flash-linear-attention as a literal loop.

A test module that imports this is skipped where torchscale is not installed.
"""

import contextlib
import dataclasses

import numpy as np
import torch
from torchscale_stub import import_torchscale, no_casts_down

from refimpl.interop import from_torchscale, to_torchscale
from refimpl.tree import flatten

torchscale, Config = import_torchscale()

TIME, VOCAB = 32, 11
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, TIME))
INITIAL, SHARP = 1.0, 12.0  # factors of W_Q and W_K; with the second, sums of scores exceed 1, as after training


@dataclasses.dataclass(frozen=True)
class Shape:
    heads: int
    dim: int
    values: int
    ffn: int
    options: tuple = ()  # of torchscale's config
    hints: tuple = ()  # what they are called here


SHAPES = (
    Shape(1, 8, 8, 12),  # V = K
    Shape(2, 16, 24, 48, (("no_scale_embedding", False),), (("embedding_scale", 4.0),)),
    Shape(3, 48, 36, 20, (("activation_fn", "swish"),), (("activation", "swish"),)),  # V < K
    Shape(4, 32, 64, 64, (("share_decoder_input_output_embed", True),)),
    Shape(8, 64, 160, 64),  # V = 2.5 K
)


def their_config(shape, **options):
    return Config(
        decoder_embed_dim=shape.dim,
        decoder_value_embed_dim=shape.values,
        decoder_retention_heads=shape.heads,
        decoder_ffn_embed_dim=shape.ffn,
        decoder_layers=2,
        vocab_size=VOCAB,
        **dict(shape.options),
        **options,
    )


def decoder(shape=SHAPES[3], *, eps=1e-6, sharpness=INITIAL, dtype=np.float64):
    """torchscale's decoder, our params and our config. Norm weights are not all 1, so that mixing them up would show."""
    torch.manual_seed(shape.heads)
    embedding = torch.nn.Embedding(VOCAB, shape.dim)
    torch.nn.init.normal_(embedding.weight, std=shape.dim**-0.5)
    model = torchscale.RetNetDecoder(their_config(shape, layernorm_eps=eps), embedding).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(sharpness)
    model = model.double() if dtype is np.float64 else model
    params, config = from_torchscale(model.state_dict(), norm_eps=eps, **dict(shape.hints))
    if dtype is np.float64:  # its buffers are float32 numbers even now; these are the ones they are roundings of
        model.load_state_dict(on_torch(to_torchscale(params, config)))
    return model, params, config


def on_torch(state_dict):
    return {key: torch.from_numpy(value) for key, value in state_dict.items()}


def logits_of(model, dtype, form, **chunk):
    """torchscale's logits (B, T, vocab) by one of its three forms."""
    with torch.no_grad(), no_casts_down() if dtype is np.float64 else contextlib.nullcontext():
        return np.asarray(form(model, torch.from_numpy(TOKENS), **chunk))


def parallel(model, tokens):
    return model(tokens)[0]


def recurrent(model, tokens):
    state = {}
    return torch.cat([model(tokens[:, : n + 1], incremental_state=state)[0] for n in range(TIME)], dim=1)


def chunkwise(model, tokens, size):
    model.chunkwise_recurrent = True
    model.recurrent_chunk_size = model.retnet_rel_pos.recurrent_chunk_size = size
    return model(tokens)[0]


def gap(got, want):
    """Largest difference over largest value; NaN is below nothing."""
    assert got.shape == want.shape
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def assert_same_bits(got, want):
    assert set(got) == set(want)
    for key in want:
        assert np.asarray(got[key]).dtype == np.asarray(want[key]).dtype, key
        assert np.array_equal(got[key], want[key]), key


def assert_same_model(got, want):
    """Both (params, config), to the bit."""
    assert got[1] == want[1]
    assert_same_bits(flatten(got[0]), flatten(want[0]))


# ---------------------------------------------------------------- flash-linear-attention as a literal loop


@dataclasses.dataclass(frozen=True)
class Fla:
    """A RetNetForCausalLM as flash-linear-attention's config describes it."""

    hidden: int = 12
    heads: int = 2
    keys: int = 12
    values: int = 24
    inner: int = 10
    affine: bool = True
    gate: bool = True
    fuse: bool = True

    @property
    def norm(self):
        return "attn.g_norm_swish_gate.weight" if self.fuse and self.gate else "attn.g_norm.weight"

    def state_dict(self):
        rng = np.random.default_rng(2)
        block = {
            "attn_norm.weight": (self.hidden,),
            "attn.q_proj.weight": (self.keys, self.hidden),
            "attn.k_proj.weight": (self.keys, self.hidden),
            "attn.v_proj.weight": (self.values, self.hidden),
            "attn.o_proj.weight": (self.hidden, self.values),
            "mlp_norm.weight": (self.hidden,),
            "mlp.gate_proj.weight": (self.inner, self.hidden),
            "mlp.up_proj.weight": (self.inner, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.inner),
        }
        if self.gate:
            block["attn.g_proj.weight"] = (self.values, self.hidden)
        if self.affine:
            block[self.norm] = (self.values // self.heads,)
        sizes = {"model.embeddings.weight": (VOCAB, self.hidden), "model.norm.weight": (self.hidden,)}
        sizes |= {f"model.layers.{n}.{name}": size for n in range(2) for name, size in block.items()}
        sizes["lm_head.weight"] = (VOCAB, self.hidden)
        return {key: rng.standard_normal(size) for key, size in sizes.items()}

    def logits(self, state_dict, sentence, eps):
        """(T, vocab) of one sentence, token by token and head by head."""
        memory = np.zeros((2, self.heads, self.keys // self.heads, self.values // self.heads))
        return np.stack([self._token(state_dict, n, token, memory, eps) for n, token in enumerate(sentence)])

    def _token(self, state_dict, position, token, memory, eps):
        x = state_dict["model.embeddings.weight"][token]
        for n in range(2):
            w = {key.removeprefix(f"model.layers.{n}."): value for key, value in state_dict.items()}
            normed = rms(x, eps) * w["attn_norm.weight"]
            q, k, v = (w[f"attn.{name}_proj.weight"] @ normed for name in "qkv")
            heads = []
            for h in range(self.heads):
                q_h, k_h, v_h = (np.split(each, self.heads)[h] for each in (q, k, v))
                memory[n, h] = (1 - 2.0 ** (-5 - h)) * memory[n, h] + np.outer(half_turn(k_h, position), v_h)
                o_h = rms(half_turn(q_h, position) / np.sqrt(q_h.size) @ memory[n, h], eps)
                heads.append(o_h * w[self.norm] if self.affine else o_h)
            o = np.concatenate(heads)
            if self.gate:
                g = w["attn.g_proj.weight"] @ normed
                o = o * g / (1 + np.exp(-g))
            x = x + w["attn.o_proj.weight"] @ o
            normed = rms(x, eps) * w["mlp_norm.weight"]
            gate = w["mlp.gate_proj.weight"] @ normed
            x = x + w["mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * (w["mlp.up_proj.weight"] @ normed))
        return state_dict["lm_head.weight"] @ (rms(x, eps) * state_dict["model.norm.weight"])


def rms(x, eps):
    return x / np.sqrt(np.mean(x**2) + eps)


def half_turn(x, position):
    """Channel i and channel i + K/2 as one complex number, turned by position 10000^(-2 i / K)."""
    real, imaginary = np.split(x, 2)
    turned = (real + 1j * imaginary) * np.exp(1j * position * 10000.0 ** (-np.arange(real.size) / real.size))
    return np.concatenate([turned.real, turned.imag])
