"""The layer: every tensor of every step is that of `multi_scale_retention`, in both forms, however they divide."""

from dataclasses import replace

import numpy as np
from explorables import LayerDiagram
from explorables.node import compute, controls

from refimpl import decay_mask, multi_scale_retention, retention_parallel, retention_recurrent
from refimpl.layers import linear, merge_heads, rms_norm, swish

FORMS = {"parallel": retention_parallel, "recurrent": retention_recurrent}
DIVIDES = {"none": (), "both": tuple(FORMS), "recurrent": ("recurrent",)}  # the forms that divide
EPSILONS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1)
START = {"step": 3, "n": 4, "form": "parallel", "divide": "none", "eps": 1}
SETTINGS = [
    {},
    *({"step": step, "n": n, "form": form} for form in FORMS for step in range(9) for n in (1, 3, 5)),
    *({"form": form, "divide": divide, "eps": eps} for form in FORMS for divide in DIVIDES for eps in range(7)),
]


def tensors(form, n, divide, eps):
    """What the layer computes, by the names of the picture."""
    data = LayerDiagram.course_data()
    config = replace(LayerDiagram.config, row_norm=form in DIVIDES[divide], norm_eps=EPSILONS[eps])
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
        step, n, form, divide, eps = (START | values).values()
        want = tensors(form, n, divide, eps)
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
        one, other = (tensors(each, n, divide, eps)["out"] for each in FORMS)
        difference = np.abs(other - one).max() / np.abs(one).max()
        np.testing.assert_allclose(got["difference"], difference, rtol=1e-9, atol=1e-12)
        assert (difference < 1e-12) == (divide != "recurrent" or EPSILONS[eps] == 0)


def test_it_starts_with_the_epsilon_of_the_package():
    (eps,) = (control for control in controls(LayerDiagram) if control["name"] == "eps")
    assert EPSILONS[eps["value"]] == LayerDiagram.config.norm_eps
