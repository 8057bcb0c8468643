"""The layer: every tensor of every step is that of `multi_scale_retention`, in both forms."""

import numpy as np
from explorables import LayerDiagram
from explorables.node import compute

from refimpl import decay_mask, multi_scale_retention, retention_parallel, retention_recurrent
from refimpl.layers import linear, merge_heads, rms_norm, swish

FORMS = {"parallel": retention_parallel, "recurrent": retention_recurrent}
START = {"step": 3, "n": 4, "form": "parallel"}
SETTINGS = [{}, *({"step": step, "n": n, "form": form} for form in FORMS for step in range(9) for n in (1, 3, 5))]


def tensors(form, n):
    """What the layer computes, by the names of the picture."""
    data, config = LayerDiagram.course_data(), LayerDiagram.config
    params = {name: np.array(data[name]) for name in ("w_q", "w_k", "w_v", "w_g", "w_o")}
    x, record = np.array(data["x"])[None], {}
    out, _ = multi_scale_retention(params, x, config, retention=FORMS[form], record=record)
    states = multi_scale_retention(params, x[:, :n], config, retention=FORMS[form])[1]
    normed = rms_norm(record["divided"], eps=config.norm_eps)
    np.testing.assert_array_equal(merge_heads(normed), record["merged"])
    found = {name: linear(x, params[f"w_{name}"]) for name in "qkv"} | {
        "turnedQ": merge_heads(record["q"]), "turnedK": merge_heads(record["k"]),
        "weights": (record["q"] @ record["k"].mT) * decay_mask(record["gamma"], 5),
        "states": states, "retained": record["divided"], "normed": normed, "merged": record["merged"],
        "gateIn": record["gate"], "gate": swish(record["gate"]), "gated": record["gated"], "out": out,
    }  # fmt: skip
    return {name: array[0] for name, array in found.items()}


def test_numbers_are_those_of_the_layer():
    for values, got in zip(SETTINGS, compute(LayerDiagram, *SETTINGS), strict=True):
        step, n, form = (START | values).values()
        want = tensors(form, n)
        assert got.keys() == want.keys() | {"rows", "state", "held", "difference"}
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)
        meeting = ["weights", "retained"] if form == "parallel" else ["retained"]
        here = [["x"], ["q", "k", "v"], ["turnedQ", "turnedK"], meeting, ["normed"], ["merged"], ["gateIn", "gate"],
                ["gated"], ["out"]][step]  # fmt: skip
        sizes = want | {"x": np.array(LayerDiagram.course_data()["x"])}
        rows = sum(sizes[name].size for name in here) // (1 if form == "parallel" else 5)
        state = want["states"].size if form == "recurrent" else 0
        assert (got["rows"], got["state"], got["held"]) == (rows, state, rows + state)
        assert 0 <= got["difference"] < 1e-12
