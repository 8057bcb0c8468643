"""Refusals: what bad argument every public function must refuse, with which exception and which whole message.

The whole message is compared, because it is what the user reads. Another array library, where one is needed, is
handed in as a `contract.Backend`.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Refusal:
    """A function by name, the arguments that spoil its call, and the exception and message this must give.

    changes: by name, those that replace good ones, or all of them in order.
    """

    function: str
    changes: dict | tuple
    error: type
    message: str


def refused(call, error, message):
    """Demand that call() raises exactly this error with exactly this message."""
    try:
        call()
    except error as refusal:
        assert type(refusal) is error, f"{type(refusal).__name__} raised, want {error.__name__}"
        assert str(refusal) == message, f"the message was: {refusal}"
    else:
        raise AssertionError(f"accepted; want {error.__name__}: {message}")


def arguments(**changes):
    """Arguments of a retention, B 2, H 3, T 5, K 4, V 6, all of them good except for the changes."""
    good = {
        "q": np.ones((2, 3, 5, 4)),
        "k": np.ones((2, 3, 5, 4)),
        "v": np.ones((2, 3, 5, 6)),
        "gamma": np.array([0.9, 0.95, 1.0]),
        "state": np.zeros((2, 3, 4, 6)),
    }
    return good | changes


def refusals(error, table):
    """A `Refusal` for each row (changes, message) of {function: rows}."""
    return [Refusal(name, changes, error, message) for name, rows in table.items() for changes, message in rows]


FLOATS = "float16, bfloat16, float32, float64"
NOT_AN_ARRAY = "must be an array (NumPy, torch or another array-API library)"
OTHER_ORDER = np.dtype(np.float64).newbyteorder()
V_SHAPE = "v must have shape (2, 3, 5, 6) (batch, heads and time of q, then value_dim)"
ONE_TOKEN = np.array([[1]])
STATE_SHAPE = "state must have shape (2, 3, 4, 6) (batch, heads, key_dim, value_dim)"


def _ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


VALUE_ERRORS = {
    "retention": [
        ({"q": _ones(2, 5, 4)}, "q must have 4 axes (batch, heads, time, key_dim), got shape (2, 5, 4)"),
        ({"v": _ones(1, 2, 3, 5, 6)}, "v must have 4 axes (batch, heads, time, value_dim), got shape (1, 2, 3, 5, 6)"),
        ({"k": _ones(1, 3, 5, 4)}, "k must have shape (2, 3, 5, 4) (that of q), got (1, 3, 5, 4)"),
        ({"k": _ones(2, 1, 5, 4)}, "k must have shape (2, 3, 5, 4) (that of q), got (2, 1, 5, 4)"),
        ({"k": _ones(2, 3, 6, 4)}, "k must have shape (2, 3, 5, 4) (that of q), got (2, 3, 6, 4)"),
        ({"k": _ones(2, 3, 5, 6)}, "k must have shape (2, 3, 5, 4) (that of q), got (2, 3, 5, 6)"),
        ({"v": _ones(1, 3, 5, 6)}, f"{V_SHAPE}, got (1, 3, 5, 6)"),
        ({"v": _ones(2, 3, 1, 6)}, f"{V_SHAPE}, got (2, 3, 1, 6)"),
        ({"gamma": np.array([0.9])}, "gamma must have shape (3,) (one decay for each head of q), got (1,)"),
        ({"gamma": _ones(3, 1)}, "gamma must have shape (heads,), one decay a head, got (3, 1)"),
        ({"gamma": np.array([0.9, 0.95, 1.5])}, "gamma must lie in (0, 1], got 1.5 at head 2"),
        ({"gamma": np.array([0.0, 0.95, 1.0])}, "gamma must lie in (0, 1], got 0 at head 0"),
        ({"gamma": np.array([0.9, -0.5, 1.0])}, "gamma must lie in (0, 1], got -0.5 at head 1"),
        ({"gamma": np.array([0.9, np.nan, 1.0])}, "gamma must lie in (0, 1], got nan at head 1"),
        ({"state": _ones(2, 3, 6, 4)}, f"{STATE_SHAPE}, got (2, 3, 6, 4)"),
        ({"state": _ones(1, 3, 4, 6)}, f"{STATE_SHAPE}, got (1, 3, 4, 6)"),
    ],
    "retention_chunkwise": [({"chunk_size": 0}, "chunk_size must be at least 1, got 0")],
    "retention_step": [({}, "q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = 5")],
    "head_decays": [
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        (
            {"num_heads": 4, "schedule": "linear"},
            "schedule must be one of 'released', 'paper', 'quarter', got 'linear'",
        ),
    ],
    "decay_mask": [
        ({"gamma": np.array([0.5]), "time": -1}, "time must be at least 0, got -1"),
        ({"gamma": np.array([1.01]), "time": 4}, "gamma must lie in (0, 1], got 1.01 at head 0"),
    ],
    "chunk_decays": [({"gamma": np.array([0.5]), "length": -1}, "length must be at least 0, got -1")],
    "rotate": [
        ({"x": _ones(2, 3)}, "key_dim must be even, for channels turn in pairs, got 3"),
        ({"x": _ones(2, 3), "ladder": _ones(1)}, "key_dim must be even, for channels turn in pairs, got 3"),
        ({"x": _ones(4)}, "x must have at least 2 axes (..., time, key_dim), got shape (4,)"),
        (
            {"x": _ones(2, 3, 4), "offset": np.array([1, 2, 3])},
            "offset must have shape (2,) (one for each sequence), got (3,)",
        ),
        ({"x": _ones(2, 4), "ladder": "xpos"}, "ladder must be one of 'released', 'rotary', got 'xpos'"),
        (
            {"x": _ones(2, 4), "ladder": _ones(3)},
            "ladder must have shape (2,) (one angle for each channel pair of x), got (3,)",
        ),
    ],
    "RetNetConfig": [
        (
            {"dim": 10, "num_heads": 4},
            "dim must be a multiple of num_heads = 4 unless key_dim is given, got 10",
        ),
        ({"key_dim": 3}, "key_dim must be even, for channels turn in pairs, got 3"),
        ({"norm_eps": float("nan")}, "norm_eps must be finite, got nan"),
        ({"embedding_scale": float("inf")}, "embedding_scale must be finite, got inf"),
        ({"norm_eps": -1e-6}, "norm_eps must be at least 0, got -1e-06"),
        (
            {"gamma_schedule": 1.5},
            "gamma_schedule must be one of 'released', 'paper', 'quarter' or a gamma in (0, 1], got 1.5",
        ),
        (
            {"gamma_schedule": 0.0},
            "gamma_schedule must be one of 'released', 'paper', 'quarter' or a gamma in (0, 1], got 0.0",
        ),
        ({"ffn": "relu"}, "ffn must be one of 'swiglu', 'geglu', 'gelu', got 'relu'"),
        ({"rotation": "xpos"}, "rotation must be one of 'released', 'rotary', None, got 'xpos'"),
        ({"group_norm": "layer"}, "group_norm must be one of 'rms', 'mean', None, got 'layer'"),
        ({"score_norm": "max"}, "score_norm must be one of None, 'sum', 'absolute', got 'max'"),
        (
            {"group_norm": None, "group_norm_affine": True},
            "group_norm_affine must be False without a group_norm, got True",
        ),
        *[
            ({name: least - 1}, f"{name} must be at least {least}, got {least - 1}")
            for name, least in (
                ("vocab_size", 1),
                ("dim", 1),
                ("num_layers", 1),
                ("num_heads", 1),
                ("key_dim", 2),
                ("value_dim", 1),
                ("ffn_dim", 1),
            )
        ],
        *[
            ({name: "yes"}, f"{name} must be one of True, False, got 'yes'")
            for name in ("gate", "group_norm_affine", "scale_keys", "row_norm")
        ],
    ],
    "forward": [
        ({"params": {"layers": []}}, "params: layers.0.ffn.w_1 is missing"),
        (
            {"params": {"head": _ones(8, 12, dtype=np.float32)}},
            "params: head must have shape (8, 11) (by the config), got (8, 12)",
        ),
        ({"params": {"bias": _ones(11, dtype=np.float32)}}, "params: bias is no parameter of this config"),
        ({"tokens": np.array([1, 2])}, "tokens must have shape (batch, time), got (2,)"),
        ({"tokens": np.array([[1, 11]])}, "tokens must lie in [0, 11), got 11"),
        ({"tokens": np.array([[-1, 1]])}, "tokens must lie in [0, 11), got -1"),
        ({"state_layers": 2}, "state must hold 1 layers, got 2"),
    ],
    "decode_step": [({"tokens": ONE_TOKEN}, "tokens must have shape (batch,), one token a sequence, got (1, 1)")],
}
TYPE_ERRORS = {
    "retention": [
        ({"gamma": 0.9}, f"gamma {NOT_AN_ARRAY}, got float"),
        ({"gamma": np.ones(3, np.float16)}, "gamma must be float32 or float64, got float16"),
        ({"gamma": np.ones(3, np.int64)}, f"gamma must have dtype {FLOATS}, got int64"),
        ({"q": [[[[1.0]]]]}, f"q {NOT_AN_ARRAY}, got list"),
        ({"q": np.ma.ones((2, 3, 5, 4))}, f"q {NOT_AN_ARRAY}, got MaskedArray"),
        ({"q": _ones(2, 3, 5, 4, dtype=OTHER_ORDER)}, f"q must have dtype {FLOATS}, got {OTHER_ORDER}"),
        (
            {"q": _ones(2, 3, 5, 4, dtype=np.longdouble)},
            f"q must have dtype {FLOATS}, got {np.dtype(np.longdouble)}",
        ),
        ({"q": _ones(2, 3, 5, 4, dtype=np.int32)}, f"q must have dtype {FLOATS}, got int32"),
        ({"q": _ones(2, 3, 5, 4) * 1j}, f"q must have dtype {FLOATS}, got complex128"),
        ({"v": _ones(2, 3, 5, 6, dtype=bool)}, f"v must have dtype {FLOATS}, got bool"),
        ({"k": _ones(2, 3, 5, 4, dtype=np.float32)}, "k must have dtype float64 like q, got float32"),
        ({"v": _ones(2, 3, 5, 6, dtype=np.float32)}, "v must have dtype float64 like q, got float32"),
        (
            {"state": _ones(2, 3, 4, 6, dtype=np.float32)},
            "state must have dtype float64 when q is float64, got float32",
        ),
        ({"state": _ones(2, 3, 4, 6, dtype=np.int64)}, f"state must have dtype {FLOATS}, got int64"),
    ],
    "retention_chunkwise": [
        ({"chunk_size": 4.0}, "chunk_size must be an integer, got 4.0 (float)"),
        ({"chunk_size": True}, "chunk_size must be an integer, got True (bool)"),
    ],
    "head_decays": [({"num_heads": 2.5}, "num_heads must be an integer, got 2.5 (float)")],
    "decay_mask": [
        ({"gamma": np.array([0.5]), "time": 4, "rows": 2}, "rows must be a slice or None, got int"),
    ],
    "rotate": [
        ({"x": _ones(2, 4, dtype=np.int64)}, f"x must have dtype {FLOATS}, got int64"),
        ({"x": _ones(2, 4), "offset": 1.5}, "offset must be an integer, got 1.5 (float)"),
        (
            {"x": _ones(2, 3, 4), "offset": np.array([1.0, 2.0])},
            "offset must be an integer or an array of integers of numpy, got one of numpy and float64",
        ),
    ],
    "RetNetConfig": [
        ({"norm_eps": "small"}, "norm_eps must be a number, got 'small' (str)"),
        (
            {"gamma_schedule": None},
            "gamma_schedule must be one of 'released', 'paper', 'quarter' or a gamma in (0, 1], got None",
        ),
    ],
    "forward": [
        (
            {"params": {"head": _ones(8, 11)}},
            "params: head must be ndarray of float32 like embedding, got ndarray of float64",
        ),
        ({"tokens": [[1]]}, "tokens must be an array of the library of params, got list"),
        ({"tokens": np.array([[1.0]])}, "tokens must be integers, got float64"),
        ({"state": (0, (None,))}, "state must be a State that forward returned, or None, got tuple"),
    ],
}
REFUSALS = refusals(ValueError, VALUE_ERRORS) + refusals(TypeError, TYPE_ERRORS)
RETENTION_REFUSALS = [refusal for refusal in REFUSALS if refusal.function == "retention"]
PACKAGE_REFUSALS = [refusal for refusal in REFUSALS if refusal.function != "retention"]


def retention_refuses(retention, refusal):
    """One of RETENTION_REFUSALS, by a retention."""
    refused(lambda: retention(**arguments(**refusal.changes)), refusal.error, refusal.message)


def package_refuses(package, refusal):
    """One of PACKAGE_REFUSALS, by a package that offers the names of refimpl."""
    function, changes = getattr(package, refusal.function), refusal.changes
    if refusal.function.startswith("retention_"):
        changes = arguments(**changes)
    elif refusal.function in ("forward", "decode_step"):
        changes = _model_arguments(package, **changes)
    refused(lambda: function(**changes), refusal.error, refusal.message)


def _model_arguments(package, tokens=ONE_TOKEN, params=None, state=None, state_layers=None):
    config = package.RetNetConfig(vocab_size=11, dim=8, num_layers=1, num_heads=2)
    if state_layers is not None:
        state = package.State(0, (None,) * state_layers)
    params = package.init_params(config) | (params or {})
    return {"params": params, "tokens": tokens, "config": config, "state": state}


def refuses_other_libraries(retention, backend):
    """An array of another library than q's, here `backend`'s beside NumPy's q, is refused by name."""
    for name in ("k", "v", "gamma", "state"):
        mixed = arguments(**{name: backend.asarray(arguments()[name])})
        message = f"{name} must be an array of numpy like q, got one of {backend.namespace.__name__}"
        refused(lambda mixed=mixed: retention(**mixed), TypeError, message)


def model_refuses_other_libraries(package, backend):
    """Tokens of another library than the parameters."""
    tokens = backend.asarray(np.array([[1]]), "int64")
    message = f"tokens must be an array of the library of params, got {type(tokens).__name__}"
    refused(lambda: package.forward(**_model_arguments(package, tokens)), TypeError, message)


def refuses_other_devices(retention, backend):
    """A tensor elsewhere is refused by name; torch's meta device, which every machine has, stands for a GPU."""
    good = {name: backend.asarray(x) for name, x in arguments().items()}
    for name in ("k", "v", "gamma", "state"):
        elsewhere = good | {name: good[name].to("meta")}
        message = f"{name} must be on device cpu like q, got device meta"
        refused(lambda elsewhere=elsewhere: retention(**elsewhere), ValueError, message)


def refuses_half_states(retention, backend):
    """A bfloat16 state would cost 12 % of the answer at T = 1024; it is refused, not cast. So is a bfloat16 gamma."""
    halves = {name: backend.asarray(x, "bfloat16") for name, x in arguments().items()}
    dtype = halves["q"].dtype
    refused(
        lambda: retention(**(halves | {"state": None})), TypeError, f"gamma must be float32 or float64, got {dtype}"
    )
    message = f"state must have dtype {backend.namespace.float32} when q is {dtype}, got {dtype}"
    refused(lambda: retention(**(halves | {"gamma": backend.asarray(arguments()["gamma"])})), TypeError, message)
