"""The pictures of lesson 8, read back; the divisors of the lesson are those of the released code."""

import json

import numpy as np
import pytest
import torch
from figures import norms
from paths import NOTEBOOKS
from plotted import axes, check_line, texts
from torchscale_stub import import_torchscale, no_casts_down

from refimpl import (
    RetNetConfig,
    decay_mask,
    head_decays,
    init_params,
    retention_parallel,
    rotation_frequencies,
    row_sums,
)
from refimpl.layers import merge_heads, project, rms_norm, swish

OUT = np.array([[3.0, 4.0], [0.3, -0.4], [0.0, 2.0]])  # mean squares 12.5, 0.125, 2
DIVISORS = {"one": np.ones(3), "two": np.array([1.0, 2.0, 5.0]), "same": np.ones(3)}
COLUMNS = {name: divisor[:, None] for name, divisor in DIVISORS.items()}


def size(x, eps):
    """What is left of the size of a row, by hand."""
    ms = np.mean(np.square(x), axis=-1)
    return np.sqrt(ms / (ms + eps))


def test_share_kept_is_half_a_root_at_eps():
    picture = norms.share_kept({"equal": 1.0, "three times": 3.0})
    (ax,) = picture.axes
    ratio, kept = ax.lines[0].get_xydata().T
    np.testing.assert_allclose(kept, np.sqrt(ratio / (ratio + 1)), rtol=1e-12)
    np.testing.assert_allclose([line.get_xydata()[0] for line in ax.lines[1:]], [(1, 0.5**0.5), (3, 0.75**0.5)])
    assert texts(ax.texts)[:2] == ["equal: 0.707", "three times: 0.866"]
    assert "0.707 at 1 (equal)" in picture.description
    assert ax.get_xscale() == "log"


def test_disagreement_by_hand():
    """Mean square 2 in the third token, divided by 1 and by 5 before eps = 2: sizes (2/4)^0.5 and (2/52)^0.5."""
    found = norms.disagreement(OUT[2:], {name: divisor[2:] for name, divisor in COLUMNS.items()}, 2.0)
    assert found == {"two": pytest.approx(100 * (1 - np.sqrt(1 / 13))), "same": 0.0}
    assert norms.disagreement(OUT, COLUMNS, 0.0)["two"] < 1e-12


def test_disagreements_draw_their_lines():
    eps, lines = np.array([1e-6, 1e-5]), {"a": np.array([1.0, 10.0]), "b": np.array([0.2, 2.0])}
    picture = norms.disagreements(eps, lines, [(1e-6, 1.0, "here")])
    (ax,) = picture.axes
    for line, (name, y) in zip(ax.lines, lines.items(), strict=False):
        check_line(line, eps, y, name)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert texts(ax.texts) == ["here", "a", "b"]
    assert "b: 0.2 % at 1e-06, 2 % at 1e-05" in picture.description


@pytest.mark.parametrize(("eps", "scale"), [(1e-5, 1.0), (1e-5, 0.01), (0.0, 10.0)])
def test_after_the_norm_draws_sizes_and_differences(eps, scale):
    picture = norms.after_the_norm(OUT, DIVISORS, eps, scale)
    drawn = axes(picture)
    for line, (name, divisor) in zip(drawn["sizes"].lines, COLUMNS.items(), strict=True):
        check_line(line, [1, 2, 3], line.get_ydata())
        assert line.get_label().lstrip("_").split(", ")[0] == name
        np.testing.assert_allclose(line.get_ydata(), size(scale * OUT / divisor, eps), rtol=1e-12)
    curve, *dot = drawn["apart"].lines  # "same" differs nowhere and has no line
    assert curve.get_label() == "two"
    at = {each: norms.disagreement(scale * OUT, COLUMNS, each)["two"] for each in norms.EPS}
    np.testing.assert_allclose(curve.get_xydata(), list(at.items()))
    assert len(dot) == (eps > 0)
    if eps:
        now = norms.disagreement(scale * OUT, COLUMNS, eps)["two"]
        np.testing.assert_allclose(dot[0].get_xydata(), [(eps, now)])
        assert f"two {now:.2g} %, same 0 %" in picture.description
        assert "same 0 %" in drawn["apart"].get_title()


def test_forms_that_agree_share_a_name():
    sizes, _ = norms.after_the_norm(OUT, DIVISORS, 1e-5).axes
    assert texts(sizes.texts) == ["one, same", "two"]


def test_forms_and_axes_are_told_apart_without_colour():
    panels = norms.after_the_norm(OUT, DIVISORS, 1e-5).axes
    assert len({line.get_linestyle() for line in panels[0].lines}) == 3
    for ax in panels:
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_the_explorer_moves_eps_and_the_input():
    picture = norms.norm_explorer(OUT, DIVISORS).move(eps=1e-4, scale=0.1)
    np.testing.assert_allclose(picture.axes[0].lines[1].get_ydata(), size(0.1 * OUT / COLUMNS["two"], 1e-4))


# The divisors that the lesson writes out

CONFIG = RetNetConfig(dim=64, num_heads=4, num_layers=1)
TIME, CHUNK = 48, 8


def lesson_divisors():
    """{form: function} as the cell "divisors" of the lesson defines them."""
    (path,) = NOTEBOOKS.glob("08_*.ipynb")
    (source,) = ("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["id"] == "divisors")
    namespace = {"np": np, "row_sums": row_sums, "decay_mask": decay_mask, "retention_parallel": retention_parallel}
    exec(source, namespace)
    return {form: namespace[f"{form}_divisor"] for form in ("parallel", "recurrent", "chunkwise")}


def torchscale_layer(params, x, eps, form):
    """Its MultiScaleRetention with our weights, in float64, by one of its forms."""
    retnet, config = import_torchscale()
    args = config(
        decoder_embed_dim=64, decoder_value_embed_dim=128, decoder_retention_heads=4, layernorm_eps=eps,
        recurrent_chunk_size=CHUNK,
    )  # fmt: skip
    layer, position = retnet.MultiScaleRetention(args, 64, 128, 4).double(), retnet.RetNetRelPos(args).double()
    position.angle = torch.from_numpy(np.repeat(rotation_frequencies(16), 2))  # its own are rounded to float32
    position.decay = torch.from_numpy(head_decays(4, log=True))
    names = {"w_q": "q_proj", "w_k": "k_proj", "w_v": "v_proj", "w_g": "g_proj", "w_o": "out_proj"}
    layer.load_state_dict({f"{theirs}.weight": torch.from_numpy(params[ours].T) for ours, theirs in names.items()})
    x, state = torch.from_numpy(x), {}
    with torch.no_grad(), no_casts_down():
        if form == "parallel":
            return layer(x, position(TIME)).numpy()
        if form == "chunkwise":
            return layer(x, position(TIME, chunkwise_recurrent=True), chunkwise_recurrent=True).numpy()
        tokens = [
            layer(x[:, n : n + 1], position(n + 1, activate_recurrent=True), incremental_state=state)
            for n in range(TIME)
        ]
        return torch.cat(tokens, dim=1).numpy()


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-5])
@pytest.mark.parametrize("sharpness", [1, 12, 60])  # at 60 the state of a chunk counts too
@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_the_divisors_of_lesson_8_are_torchscale_s(form, sharpness, eps):
    params = init_params(CONFIG, dtype=np.float64)["layers"][0]["retention"]
    params |= {name: sharpness * params[name] for name in ("w_q", "w_k")}
    x = rms_norm(np.random.default_rng(0).standard_normal((2, TIME, 64)), eps=0.0)
    q, k, v, gamma = project(params, x, CONFIG)
    chunk = {"C": CHUNK} if form == "chunkwise" else {}
    o = retention_parallel(q, k, v, gamma)[0] / lesson_divisors()[form](q, k, v, gamma, **chunk)
    got = (swish(x @ params["w_g"]) * merge_heads(rms_norm(o, eps=eps))) @ params["w_o"]
    want = torchscale_layer(params, x, eps, form)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())
