"""One decoded token as an ONNX graph, written from the config: the `decode.onnx` of `python -m gpu export --onnx` for one text.

    token (1,) int64, state (L, 1, H, K, V) float32, position (1,) int64 -> logits (1, vocab) float32, next_state

torch's exporter needs minutes for the shipped model; this needs a second and no torch. Weights stay in float16, as they are
shipped, and are widened when a runtime loads the graph.
"""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from refimpl import head_decays
from refimpl.rotation import rotation_frequencies
from refimpl.tree import map_tree

# What the graph below holds, in terms of `RetNetConfig`.
HELD = {
    "gate": True,
    "group_norm": "rms",
    "group_norm_affine": False,
    "ffn": "swiglu",
    "row_norm": False,
    "score_norm": None,
}
OPSET, IR = 18, 10


class Graph:
    """Nodes and constants; `graph.Add(a, b)` adds a node and returns the name of its output.

    Arguments are names or arrays; attributes of a node are keywords. outputs: how many; then a list of names comes back.
    """

    def __init__(self):
        self.nodes, self.constants = [], []

    def __getattr__(self, kind):
        return lambda *inputs, **how: self._node(kind, *inputs, **how)

    def _node(self, kind, *inputs, outputs=1, **attributes):
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        given = [each if isinstance(each, str) else self._constant(np.asarray(each)) for each in inputs]
        self.nodes.append(helper.make_node(kind, given, names, **attributes))
        return names if outputs > 1 else names[0]

    def _constant(self, array):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def decode_graph(params, config):
    """The bytes of an ONNX file with one decode step of a model.

    Args:
        params: a nested dict of NumPy arrays, float16 or float32, as `refimpl.weights.load_params` reads it.
        config: its `RetNetConfig`.

    Raises:
        ValueError: config has a part that the graph does not hold.
    """
    for name, held in HELD.items():
        if (got := getattr(config, name)) != held:
            raise ValueError(f"config must have {name} = {held!r} to be written as a graph, got {got!r}")
    graph, real = Graph(), TensorProto.FLOAT
    params = map_tree(lambda _, array: graph.Cast(array, to=real), params)
    turns = _turns(graph, config)
    x = graph.Mul(graph.Gather(params["embedding"], "token"), np.float32(config.embedding_scale))  # (1, d)
    before = graph.Split("state", axis=0, num_outputs=config.num_layers, outputs=config.num_layers)
    after = []
    for layer, state in zip(params["layers"], [before] if isinstance(before, str) else before, strict=True):
        normed = graph.Mul(_normed(graph, x, config), layer["retention_norm"])
        out, state = _retention(graph, layer["retention"], normed, state, turns, config)
        x, after = graph.Add(x, out), [*after, state]
        normed = graph.Mul(_normed(graph, x, config), layer["ffn_norm"])
        x = graph.Add(x, _feed_forward(graph, layer["ffn"], normed))
    normed = graph.Mul(_normed(graph, x, config), params["final_norm"])
    made = {"logits": graph.MatMul(normed, params["head"]), "next_state": graph.Concat(*after, axis=0)}
    for name, node in made.items():
        graph.nodes.append(helper.make_node("Identity", [node], [name]))
    shape = [config.num_layers, 1, config.num_heads, config.key_dim, config.value_dim]
    value, whole = helper.make_tensor_value_info, TensorProto.INT64
    inputs = [value("token", whole, [1]), value("state", real, shape), value("position", whole, [1])]
    outputs = [value("logits", real, [1, config.vocab_size]), value("next_state", real, shape)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "decode", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="retnet-reference",
    )  # fmt: skip
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _normed(graph, x, config):
    """x / sqrt(mean(x^2) + eps) over the last axis."""
    mean = graph.ReduceMean(graph.Mul(x, x), np.array([-1]))
    return graph.Div(x, graph.Sqrt(graph.Add(mean, np.float32(config.norm_eps))))


def _swish(graph, x):
    return graph.Mul(x, graph.Sigmoid(x))


def _feed_forward(graph, params, x):
    """(swish(x W_1) * x W_gate) W_2."""
    hidden = graph.Mul(_swish(graph, graph.MatMul(x, params["w_1"])), graph.MatMul(x, params["w_gate"]))
    return graph.MatMul(hidden, params["w_2"])


def _turns(graph, config):
    """Names of cos and sin (K/2, 1) of the angles at `position`; None without a rotation. Angles are float64."""
    if config.rotation is None:
        return None
    theta = rotation_frequencies(config.key_dim, config.rotation)[:, None]
    angle = graph.Mul(graph.Cast("position", to=TensorProto.DOUBLE), theta)
    return [graph.Cast(each, to=TensorProto.FLOAT) for each in (graph.Cos(angle), graph.Sin(angle))]


def _turned(graph, x, turns, config):
    """x (1, H K) as (H, K/2, 2), each pair turned (Eq. 4)."""
    x = graph.Reshape(x, np.array([config.num_heads, config.key_dim // 2, 2]))
    if turns is None:
        return x
    (cos, sin), (even, odd) = turns, graph.Split(x, axis=-1, num_outputs=2, outputs=2)
    return graph.Concat(
        graph.Sub(graph.Mul(even, cos), graph.Mul(odd, sin)),
        graph.Add(graph.Mul(even, sin), graph.Mul(odd, cos)),
        axis=-1,
    )


def _retention(graph, params, x, state, turns, config):
    """S_n = gamma S_(n-1) + k^T v and o = q S_n (Eq. 6), normalised and gated (Eq. 8); x (1, d), state (1, 1, H, K, V)."""
    heads, keys, values = config.num_heads, config.key_dim, config.value_dim
    q, k = (_turned(graph, graph.MatMul(x, params[name]), turns, config) for name in ("w_q", "w_k"))
    q = graph.Reshape(q, np.array([1, 1, heads, 1, keys]))
    k = graph.Reshape(k, np.array([1, 1, heads, keys, 1]))
    if config.scale_keys:
        k = graph.Mul(k, np.float32(keys**-0.5))
    v = graph.Reshape(graph.MatMul(x, params["w_v"]), np.array([1, 1, heads, 1, values]))
    # gamma near 1 rounds in float32; what a head forgets, 1 - gamma, keeps its digits.
    forgotten = (1 - head_decays(heads, config.gamma_schedule)).astype(np.float32)[:, None, None]
    state = graph.Add(state, graph.Sub(graph.Mul(k, v), graph.Mul(state, forgotten)))
    normed = graph.Reshape(_normed(graph, graph.MatMul(q, state), config), np.array([1, heads * values]))
    gated = graph.Mul(_swish(graph, graph.MatMul(x, params["w_g"])), normed)
    return graph.MatMul(gated, params["w_o"]), state
