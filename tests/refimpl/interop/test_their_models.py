"""Weights of other libraries give the logits of those libraries here, and known bugs of public code are absent here.

Compared with the authors' torchscale 0.3.0 itself, and with a literal NumPy loop of what flash-linear-attention documents.
"""

import dataclasses
import functools
import tracemalloc

import numpy as np
import pytest
import safetensors.torch
import torch
from backends import small_model
from their_models import (
    INITIAL,
    SHAPES,
    SHARP,
    TIME,
    TOKENS,
    VOCAB,
    Config,
    Fla,
    Shape,
    assert_same_bits,
    assert_same_model,
    chunkwise,
    decoder,
    gap,
    logits_of,
    on_torch,
    parallel,
    recurrent,
    their_config,
    torchscale,
)
from torchscale_stub import no_casts_down

import refimpl
from gpu.models.operations import TORCH
from refimpl import RetNetConfig, State, decode_step, forward, init_params
from refimpl.conformance.comparison import all_close, close
from refimpl.conformance.package import forms
from refimpl.conformance.validation import refused
from refimpl.files import write_atomically
from refimpl.interop import from_fla, from_torchscale, to_fla, to_torchscale, write_safetensors
from refimpl.tree import flatten, map_tree

FORMS = forms(refimpl)
small = functools.partial(small_model, vocab_size=VOCAB, dim=8, num_layers=1)
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}  # of the largest logit

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads} heads {shape.dim} {shape.values}")
weights = pytest.mark.parametrize("sharpness", [INITIAL, SHARP], ids=("initial", "sharp"))


def assert_logits_of_every_form(params, config, want, dtype=np.float64):
    for form in FORMS.values():
        assert gap(forward(params, TOKENS, config, retention=form)[0], want) < TOLERANCE[dtype]


def rescaled(params, factor):
    """Parameters whose norm weights differ from each other."""
    rng = np.random.default_rng(1)
    for array in flatten(params).values():
        if array.ndim == 1:
            array *= rng.uniform(1 / factor, factor, array.shape)
    return params


# ---------------------------------------------------------------- torchscale: logits


@shapes
@weights
@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-5])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
def test_its_parallel_logits(shape, sharpness, eps, dtype):
    """PyPI's parallel form divides by the roots of D's row sums, then by max(|sum of a row of scores|, 1)."""
    model, params, config = decoder(shape, eps=eps, sharpness=sharpness, dtype=dtype)
    got, _ = forward(params, TOKENS, dataclasses.replace(config, score_norm="sum"))
    assert got.dtype == dtype
    assert gap(got, logits_of(model, dtype, parallel)) < TOLERANCE[dtype]


@shapes
@weights
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
def test_its_recurrent_logits_by_every_form_of_ours(shape, sharpness, dtype):
    """Its recurrent form divides by the roots of D's row sums alone, which every form knows."""
    model, params, config = decoder(shape, sharpness=sharpness, dtype=dtype)
    want = logits_of(model, dtype, recurrent)
    assert_logits_of_every_form(params, config, want, dtype)
    state = None
    for n in range(TIME):
        logits, state = decode_step(params, TOKENS[:, n], config, state)
        assert gap(logits, want[:, n]) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("sharpness", "eps", "low", "high"),
    [
        (INITIAL, 1e-6, 0, 1e-13),  # no sum of scores reaches 1: both divide by the same
        (INITIAL, 1e-5, 0, 1e-13),
        (SHARP, 0.0, 0, 1e-13),  # they do, and only eps = 0 forgives it
        (SHARP, 1e-6, 2e-5, 2e-4),
        (SHARP, 1e-5, 2e-4, 2e-3),
    ],
)
def test_its_parallel_and_recurrent_forms_differ_once_scores_are_large(sharpness, eps, low, high):
    model, _, _ = decoder(eps=eps, sharpness=sharpness)
    assert low <= gap(logits_of(model, np.float64, recurrent), logits_of(model, np.float64, parallel)) <= high


@shapes
@weights
@pytest.mark.parametrize("size", [4, 16, TIME])
def test_its_chunkwise_logits_at_eps_zero(shape, sharpness, size):
    model, params, config = decoder(shape, eps=0.0, sharpness=sharpness)
    assert_logits_of_every_form(params, config, logits_of(model, np.float64, chunkwise, size=size))


@shapes
@pytest.mark.parametrize(("eps", "low", "high"), [(1e-6, 1e-3, 0.1), (1e-5, 5e-3, 0.3)])
def test_its_chunkwise_logits_differ_at_its_own_eps(shape, eps, low, high):
    """Its chunkwise form divides each token by other positive numbers than its other two forms do.

    It weighs v by decays that sum to 1 over a chunk, divides a state by its own largest column sum where that passes 1,
    and a token by the larger of what its chunk and its past were divided by. The norm forgives a factor only where the
    mean square of what it is given is far above eps. At the released initialisation that is 1e-5 to 2e-4 here, so the
    form decides the logits: by 0.2 to 7 % of the largest at eps 1e-6, 1 to 17 % at 1e-5. At eps 0 the same weights
    agree, as shown above.
    """
    model, params, config = decoder(shape, eps=eps)
    ours, _ = forward(params, TOKENS, config)
    want = logits_of(model, np.float64, parallel)
    assert gap(ours, want) < TOLERANCE[np.float64]
    for size in (4, 16):
        assert low < gap(logits_of(model, np.float64, chunkwise, size=size), want) < high


def test_its_float32_buffers_move_float64_logits():
    """It computes angles in float32, up to 1e-6 off: why `decoder` gives a float64 model exact ones."""
    model, _, _ = decoder(SHAPES[4])
    rounded = {key: value.float().double() for key, value in model.state_dict().items() if "rel_pos" in key}
    want = logits_of(model, np.float64, recurrent)
    model.load_state_dict(model.state_dict() | rounded)
    assert 1e-10 < gap(logits_of(model, np.float64, recurrent), want) < 1e-6


@shapes
@weights
def test_its_gradients(shape, sharpness):
    """Of its parallel form, by autograd through ours; a tree of gradients has names as a tree of weights has."""
    model, params, config = decoder(shape, sharpness=sharpness)
    with no_casts_down():
        model(torch.from_numpy(TOKENS))[0].square().mean().backward()
    want = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    tree = map_tree(lambda _, array: torch.from_numpy(array).requires_grad_(), params)
    got, _ = forward(tree, torch.from_numpy(TOKENS), dataclasses.replace(config, score_norm="sum"), operations=TORCH)
    got.square().mean().backward()
    got = to_torchscale(map_tree(lambda _, leaf: leaf.grad, tree), config)
    if "share_decoder_input_output_embed" in dict(shape.options):  # one tensor there, two here
        got["embed_tokens.weight"] = got["embed_tokens.weight"] + got.pop("output_projection.weight")
    for key, gradient in want.items():
        close(got[key], gradient, 1e-12)


# ---------------------------------------------------------------- torchscale: names, shapes, bits


def float32_state_dict(shape):
    model, params, config = decoder(shape, dtype=np.float32)
    return {key: value.numpy() for key, value in model.state_dict().items()}, params, config


@shapes
def test_torchscale_round_trips_keep_the_bits(shape):
    theirs, params, config = float32_state_dict(shape)
    back = to_torchscale(params, config)
    np.testing.assert_allclose(back[ANGLE], theirs[ANGLE], rtol=1e-6)  # float32 rounding of theirs, see to_torchscale
    assert_same_bits(back | {ANGLE: theirs[ANGLE]}, theirs)
    assert_same_bits(to_torchscale(*from_torchscale(back, **dict(shape.hints))), back)
    assert_same_model(from_torchscale(back, **dict(shape.hints)), (params, config))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(
    "options",
    [{}, {"ffn": "geglu", "num_heads": 6}, {"gamma_schedule": "paper", "rotation": "rotary", "value_dim": 5}],
)
def test_params_go_to_torchscale_and_back(dtype, options):
    config = RetNetConfig(vocab_size=VOCAB, dim=24, num_layers=2, ffn_dim=7, row_norm=True, **options)
    params = rescaled(init_params(config, dtype=dtype), 2)
    state_dict = to_torchscale(params, config)
    assert all(value.flags.c_contiguous for value in state_dict.values())
    activation = "gelu" if config.ffn == "geglu" else "swish"
    assert_same_model(from_torchscale(state_dict, activation=activation), (params, config))
    args = their_config(Shape(config.num_heads, 24, config.num_heads * config.value_dim, 7))
    torchscale.RetNetDecoder(args, torch.nn.Embedding(VOCAB, 24)).load_state_dict(on_torch(state_dict), strict=True)


def test_buffers_of_torchscale_are_roundings_of_ours():
    """Angles at the paper's key width; decays past head 20, where 1 - 2^-25 is 1 in float32 and its heads never forget."""
    wide = torchscale.RetNetRelPos(Config(decoder_embed_dim=256, decoder_retention_heads=1))
    np.testing.assert_allclose(wide.angle[::2], refimpl.rotation_frequencies(256), rtol=1e-6)
    config = RetNetConfig(vocab_size=2, dim=48, num_layers=1, num_heads=24, row_norm=True)
    ours = to_torchscale(init_params(config), config)
    theirs = torchscale.RetNetRelPos(Config(decoder_embed_dim=48, decoder_retention_heads=24)).decay.numpy()
    assert np.array_equal(ours[DECAY][:20], theirs[:20])
    assert np.all(theirs[20:] == 0)
    assert np.all(ours[DECAY][20:] < 0)
    assert from_torchscale(ours | {DECAY: theirs}, activation="swish")[1] == config


def test_what_a_state_dict_may_lack():
    theirs, params, config = float32_state_dict(SHAPES[3])
    got = from_torchscale(changed(theirs, LEAN), num_heads=4, shared_embedding=True)
    assert_same_model(got, (params, config))


def test_what_comes_back_is_a_copy():
    theirs, params, _ = float32_state_dict(SHAPES[0])
    for array in theirs.values():
        array += 1000.0
    assert max(np.max(np.abs(array)) for array in flatten(params).values()) < 100


def changed(state_dict, changes):
    """A copy with other entries: None takes one out, a shape stands for zeros of float64."""
    zeros = {key: np.zeros(value) if isinstance(value, tuple) else value for key, value in changes.items()}
    return {key: value for key, value in (state_dict | zeros).items() if value is not None}


ANGLE, DECAY = "retnet_rel_pos.angle", "retnet_rel_pos.decay"
LEAN = dict.fromkeys((ANGLE, DECAY, "output_projection.weight"))
HOLD, ALONE = "state_dict must hold", "state_dict must hold the weights of this model alone, got"
V_PROJ, K_PROJ, Q_PROJ = (f"layers.{n}.retention.{name}_proj.weight" for n, name in enumerate("vkq"))
FLA_K_PROJ, CONV = "model.layers.0.attn.k_proj.weight", "model.layers.0.attn.q_conv1d.weight"
NORMS = [f"model.layers.{n}.{Fla().norm}" for n in range(2)]
A_DIVISOR = "must have shape (value_dim,), a divisor of the rows of model.layers.0.attn.v_proj.weight, got"
NO_HEADS = "num_heads must be given, for the norm of the heads has no weight that would tell it"
MISFITS = {  # changes of a state dict, arguments, the message
    from_torchscale: [
        ({"layers.1.ffn.fc2.weight": None}, {}, f"{HOLD} layers.1.ffn.fc2.weight, which is missing"),
        ({"embed_tokens.weight": None}, {}, f"{HOLD} embed_tokens.weight, which is missing"),
        ({"layers.7.ffn.fc2.weight": (1,)}, {}, f"{ALONE} layers.7.ffn.fc2.weight as well"),
        ({Q_PROJ: (1,)}, {}, f"{HOLD} layers.2.retention_layer_norm.weight, which is missing"),
        ({K_PROJ: (16, 32)}, {}, f"{K_PROJ} must have shape (32, 32), got (16, 32)"),
        ({"embed_tokens.weight": (32,)}, {}, "embed_tokens.weight must have 2 axes, got shape (32,)"),
        ({"embed_tokens.weight": (0, 32)}, {}, "vocab_size must be at least 1, got 0"),
        ({V_PROJ: (63, 32)}, {}, f"{V_PROJ} must have a multiple of num_heads = 4 rows, got 63"),
        ({V_PROJ: (0, 32)}, {}, f"{V_PROJ} must have a multiple of num_heads = 4 rows, got 0"),
        ({DECAY: (4,)}, {}, f"{DECAY} must be one of released, paper, got [0. 0. 0. 0.]"),
        ({DECAY: (0,)}, {}, "num_heads must be at least 1, got 0"),
        ({ANGLE: (6,)}, {}, f"{ANGLE} must have shape (8,), got (6,)"),
        (LEAN, {}, f"num_heads must be given, for state_dict does not hold {DECAY}"),
        (LEAN, {"num_heads": 4}, f"{HOLD} output_projection.weight, which is missing"),
        ({}, {"num_heads": 2}, f"{DECAY} must have shape (2,), got (4,)"),
        ({}, {"activation": "relu"}, "activation must be one of 'gelu', 'swish', got 'relu'"),
    ],
    from_fla: [
        ({FLA_K_PROJ: (6, 12)}, {}, f"{FLA_K_PROJ} must have shape (12, 12), got (6, 12)"),
        ({CONV: (12, 1, 4)}, {}, f"{ALONE} {CONV} as well"),
        *[({NORMS[0]: shape}, {}, f"{NORMS[0]} {A_DIVISOR} {shape}") for shape in ((7,), (0,), (25,))],
        ({"lm_head.weight": None}, {}, f"{HOLD} lm_head.weight, which is missing"),
        (dict.fromkeys(NORMS), {}, NO_HEADS),
    ],
}


@pytest.mark.parametrize(
    ("convert", "changes", "arguments", "message"),
    [(convert, *row) for convert, rows in MISFITS.items() for row in rows],
)
def test_a_state_dict_or_arguments_that_do_not_fit(convert, changes, arguments, message):
    state_dict = Fla().state_dict() if convert is from_fla else float32_state_dict(SHAPES[3])[0]
    refused(lambda: convert(changed(state_dict, changes), **arguments), ValueError, message)


def test_a_state_dict_of_another_kind():
    theirs, _, _ = float32_state_dict(SHAPES[3])
    for norm, message in (
        ((32,), "params: final_norm must be ndarray of float32 like embedding, got ndarray of float64"),
        ("one", "layer_norm.weight must be a real floating array, got <U3"),
    ):
        wrong = changed(theirs, {"layer_norm.weight": norm})
        refused(functools.partial(from_torchscale, wrong), TypeError, message)
    message = "state_dict must be a mapping or the path of a .safetensors file, got list"
    refused(lambda: from_torchscale([theirs]), TypeError, message)


@pytest.mark.parametrize(
    ("convert", "name", "value", "wanted"),
    [
        (to_torchscale, "row_norm", False, "True"),
        (to_torchscale, "gate", False, "True"),
        (to_torchscale, "ffn", "gelu", "'geglu' or 'swiglu'"),
        (to_torchscale, "gamma_schedule", 0.9, "'released' or 'paper'"),
        (to_torchscale, "key_dim", 6, "4.0"),
        (to_fla, "row_norm", True, "False"),
        (to_fla, "rotation", "released", "'rotary'"),
        (to_fla, "score_norm", "sum", "None"),
    ],
)
def test_a_config_that_others_cannot_express(convert, name, value, wanted):
    params, config = small(**{"row_norm": convert is to_torchscale, name: value})
    other = "torchscale" if convert is to_torchscale else "flash-linear-attention"
    message = f"config.{name} must be {wanted} for {other}, got {value!r}"
    refused(lambda: convert(params, config), ValueError, message)


def test_params_that_do_not_fit_their_config():
    params, config = small(row_norm=True)
    ffn = params["layers"][0]["ffn"]
    ffn["w_1"] = ffn["w_1"][:, :3]
    message = "params: layers.0.ffn.w_1 must have shape (8, 16) (by the config), got (8, 3)"
    refused(lambda: to_torchscale(params, config), ValueError, message)
    del ffn["w_1"]
    refused(lambda: to_torchscale(params, config), ValueError, "params: layers.0.ffn.w_1 is missing")


# ---------------------------------------------------------------- files


def test_files(tmp_path):
    theirs, params, config = float32_state_dict(SHAPES[0])
    path = tmp_path / "model.safetensors"
    write_safetensors(path, theirs)
    for source in (path, str(path)):
        got = from_torchscale(source)
        assert_same_model(got, (params, config))
        assert all(array.flags.writeable for array in flatten(got[0]).values())
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_torch_reads_what_is_written(tmp_path):
    theirs, _, _ = float32_state_dict(SHAPES[0])
    write_safetensors(tmp_path / "t", {key: value.T for key, value in theirs.items()})  # not C-ordered
    back = safetensors.torch.load_file(tmp_path / "t")
    with safetensors.safe_open(tmp_path / "t", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert_same_bits({key: value.numpy().T for key, value in back.items()}, theirs)


def test_bfloat16_becomes_float32_exactly(tmp_path):
    """Checkpoints come in bfloat16, their buffers too, which NumPy has no name for."""
    model, _, config = decoder(SHAPES[0], dtype=np.float32)
    halves = {key: value.bfloat16() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(halves, tmp_path / "halves.safetensors")
    want = halves["layers.0.ffn.fc1.weight"].float().numpy()
    for source in (halves, tmp_path / "halves.safetensors"):
        params, same = from_torchscale(source)
        assert same == config
        assert_same_bits({"w_1": params["layers"][0]["ffn"]["w_1"].T}, {"w_1": want})


def test_torch_parameters_are_taken_as_they_are():
    params, config = small(np.float32, row_norm=True)
    trained = map_tree(lambda _, array: torch.nn.Parameter(torch.from_numpy(array)), params)
    assert_same_bits(to_torchscale(trained, config), to_torchscale(params, config))


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_torchscale(tmp_path / "none.safetensors")
    write_atomically(tmp_path / "text", "not a state dict")
    with pytest.raises(ValueError, match=r"state_dict must be a \.safetensors file, got '.*text': "):
        from_torchscale(tmp_path / "text")
    safetensors.torch.save_file({"embed_tokens.weight": torch.zeros(2, 2, dtype=torch.int8)}, tmp_path / "integers")
    with pytest.raises(TypeError, match=r"embed_tokens\.weight must be F64, F32, F16 or BF16, got I8"):
        from_torchscale(tmp_path / "integers")
    with pytest.raises(TypeError, match=r"steps must be a real floating array, got int64"):
        write_safetensors(tmp_path / "integers", {"steps": np.arange(3)})


# ---------------------------------------------------------------- flash-linear-attention


FLAS = {
    "as its default": Fla(),
    "unfused norm": Fla(fuse=False),
    "no gate": Fla(gate=False),
    "no norm weight": Fla(affine=False, heads=3, values=15),
    "narrow keys, wide values": Fla(heads=4, keys=8, values=36),
}
flas = pytest.mark.parametrize("fla", FLAS.values(), ids=FLAS)


@flas
@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_the_logits_of_fla(fla, eps):
    state_dict = fla.state_dict()
    params, config = from_fla(state_dict, num_heads=None if fla.affine else fla.heads, norm_eps=eps)
    want = np.stack([fla.logits(state_dict, sentence, eps) for sentence in TOKENS])
    for form in FORMS.values():
        close(forward(params, TOKENS, config, retention=form)[0], want, 1e-10)


@flas
def test_fla_round_trips_keep_the_bits(fla):
    state_dict = fla.state_dict()
    params, config = from_fla(state_dict, num_heads=fla.heads)
    back = to_fla(params, config, fuse_norm=fla.fuse)
    assert_same_bits(back, state_dict)
    assert_same_model(from_fla(back, num_heads=fla.heads), (params, config))


def test_fla_from_our_params_and_a_file(tmp_path):
    config = RetNetConfig(dim=12, num_heads=2, num_layers=3, value_dim=5, rotation="rotary", group_norm_affine=True)
    params = rescaled(init_params(config), 2)
    write_safetensors(tmp_path / "fla.safetensors", to_fla(params, config))
    assert_same_model(from_fla(tmp_path / "fla.safetensors"), (params, config))


def test_an_fla_state_dict_of_a_shared_embedding():
    params, _ = from_fla(changed(Fla().state_dict(), {"lm_head.weight": None}), shared_embedding=True)
    assert np.array_equal(params["head"], params["embedding"].T)


# ---------------------------------------------------------------- bugs of public code that are absent here


def test_the_default_size_of_torchscale():
    """1280 values over 3 heads: its own default model fails at the first token; the size nearest to it works here."""
    model = torchscale.RetNetDecoder(Config(vocab_size=5, decoder_layers=1), torch.nn.Embedding(5, 768))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        model(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"v_proj\.weight must have a multiple of num_heads = 3 rows, got 1280"):
        from_torchscale(model.state_dict())
    size = {"vocab_size": 5, "dim": 768, "num_layers": 1, "num_heads": 3, "ffn_dim": 1280}
    with pytest.raises(TypeError, match=r"value_dim must be an integer, got 426\.6"):
        RetNetConfig(**size, value_dim=1280 / 3)
    config = RetNetConfig(**size, value_dim=427)
    assert np.all(np.isfinite(forward(init_params(config), np.zeros((1, 1), int), config)[0]))


def test_torchscale_has_no_prefill():
    """A prompt in one call, then a token at a time: its first step fails; `test_decoding_after_any_prefill` is ours."""
    model, _, _ = decoder()
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        model(torch.from_numpy(TOKENS), incremental_state={"is_first_step": True})


@pytest.mark.parametrize("row_norm", [True, False])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_decoding_after_any_prefill(form, row_norm):
    """Every form leaves one state: decoding after it is decoding after the parallel form, value width 2.5 x included.

    syncdoth/RetNet divides the state of a chunkwise prefill by the row sum of D where decoding wants its root. Here a
    state is never normalised, only what is read from it; one divided like theirs is seen at once.
    """
    _, params, config = decoder(SHAPES[4], sharpness=SHARP)
    config = dataclasses.replace(config, row_norm=row_norm)
    prompt, rest = TOKENS[:, :23], TOKENS[:, 23:]
    want, _ = forward(params, TOKENS, config)
    _, exact = forward(params, prompt, config)
    _, state = forward(params, prompt, config, retention=form)
    assert state.position == 23
    all_close(state.layers, exact.layers, 1e-12)
    for n in range(rest.shape[1]):
        logits, state = decode_step(params, rest[:, n], config, state)
        close(logits, want[:, 23 + n], 1e-12)
    root = np.sqrt(refimpl.row_sums(refimpl.head_decays(config.num_heads), 1, 22))[:, :, None]
    wrong = State(exact.position, tuple(layer / root for layer in exact.layers))
    assert gap(decode_step(params, rest[:, 0], config, wrong)[0], want[:, 23]) > 0.02


def test_long_texts_hold_no_nan():
    """Not past 2,795 tokens, where float32 gamma^(n - m) above the diagonal overflows, and inf * 0 is NaN in the naive
    form of flash-linear-attention; nor past 37,000, where the xPos decay in Jamie-Stirling/RetNet overflows.
    """
    gamma = np.float32(1 - 2**-5)
    with np.errstate(over="ignore"):
        assert np.isfinite(gamma ** np.float32(-2794))
        assert np.isinf(gamma ** np.float32(-2796))
    tokens = np.random.default_rng(3).integers(0, VOCAB, (1, 40_000))
    params, config = small(np.float32, row_norm=True)
    whole, _ = forward(params, tokens, config, retention=refimpl.retention_chunkwise)
    want, _ = forward(small()[0], tokens, config, retention=refimpl.retention_chunkwise)
    assert np.max(np.abs(whole - want)) < 1e-4  # NaN is never below anything
    close(forward(params, tokens[:, :2_900], config)[0], whole[:, :2_900], 1e-4)
    _, before = forward(params, tokens[:, :-1], config, retention=refimpl.retention_chunkwise)
    close(decode_step(params, tokens[:, -1], config, before)[0], whole[:, -1], 1e-4)


def test_a_decode_step_costs_the_same_at_any_position():
    """The largest memory of a step, in bytes: a cost of O(n), as in Jamie-Stirling/RetNet, would be millions of them."""
    params, config = small(row_norm=True)
    _, state = forward(params, TOKENS, config)
    peaks = []
    for position in (32, 32, 10_000, 1_000_000):
        tracemalloc.start()
        _, after = decode_step(params, TOKENS[:, 0], config, State(position, state.layers))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert after.position == position + 1
        assert [layer.nbytes for layer in after.layers] == [layer.nbytes for layer in state.layers]
    assert max(peaks[1:]) - min(peaks[1:]) < 1024  # the first fills caches


@pytest.mark.parametrize("position", [1, 1_000, 1_000_000])
def test_only_distances_between_tokens_count(position):
    """A text that begins at a later position has the same logits, without row_norm, which counts from the beginning."""
    params, config = small()
    nothing = State(position, (np.zeros((2, 2, 4, 8)),))
    want, _ = forward(params, TOKENS, config)
    for form in FORMS.values():
        close(forward(params, TOKENS, config, retention=form, state=nothing)[0], want, 1e-8)
