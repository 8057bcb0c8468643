"""The decode step that the site writes as an ONNX graph is that of refimpl, whatever the sizes; what it lacks is refused."""

import dataclasses

import numpy as np
import onnx
import pytest
from decode_graph import HELD, decode_graph

import refimpl

onnxruntime = pytest.importorskip("onnxruntime")
CONFIG = refimpl.RetNetConfig(vocab_size=19, dim=12, num_layers=2, num_heads=2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_layers": 1, "num_heads": 3, "key_dim": 6, "value_dim": 5, "ffn_dim": 7, "gamma_schedule": "paper"},
        {"rotation": "rotary", "gamma_schedule": 0.9, "scale_keys": False, "embedding_scale": 3.0, "norm_eps": 1e-3},
        {"rotation": None, "num_layers": 3},
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_it_is_refimpl_s_decode_step(changes, dtype):
    config = dataclasses.replace(CONFIG, **changes)
    params = refimpl.init_params(config, 3, dtype)
    session = onnxruntime.InferenceSession(decode_graph(params, config), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["token", "state", "position"]
    assert [each.name for each in session.get_outputs()] == ["logits", "next_state"]
    wide = refimpl.tree.map_tree(lambda _, array: array.astype(np.float32), params)
    state, want = np.zeros(session.get_inputs()[1].shape, np.float32), None
    for n, token in enumerate([3, 0, 18, 18, 7]):
        given = {"token": np.array([token]), "state": state, "position": np.array([n])}
        logits, state = session.run(None, given)
        wanted, want = refimpl.decode_step(wide, np.array([token]), config, want)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state, np.stack(want.layers), rtol=1e-4, atol=1e-5)


def test_weights_stay_as_narrow_as_they_are():
    narrow, wide = (
        decode_graph(refimpl.init_params(CONFIG, dtype=dtype), CONFIG) for dtype in (np.float16, np.float32)
    )
    constants = onnx.load_model_from_string(narrow).graph.initializer
    assert sum(each.data_type == onnx.TensorProto.FLOAT16 for each in constants) == len(
        refimpl.tree.flatten(refimpl.init_params(CONFIG))
    )
    assert len(narrow) < len(wide)


@pytest.mark.parametrize(("name", "got"), [("gate", False), ("group_norm", None), ("ffn", "gelu"), ("row_norm", True)])
def test_what_the_graph_does_not_hold_is_refused(name, got):
    config = dataclasses.replace(CONFIG, **{name: got})
    with pytest.raises(
        ValueError, match=f"config must have {name} = {HELD[name]!r} to be written as a graph, got {got!r}"
    ):
        decode_graph(refimpl.init_params(config), config)
