"""What the door refuses: (call, exception, message) for every kind of bad argument.

A refusal is tested by its whole message, because the message is what a user has to go by.
"""

import array_api_strict
import numpy as np
import torch


def _refused(call, error, message):
    try:
        call()
    except error as refusal:
        assert type(refusal) is error, f"{type(refusal).__name__} raised, want {error.__name__}"
        assert str(refusal) == message, f"the message was: {refusal}"
    else:
        raise AssertionError(f"accepted; want {error.__name__}: {message}")


def _arguments(**changes):
    """B 2, H 3, T 5, K 4, V 6, all well, except for the changes."""
    good = {
        "q": np.ones((2, 3, 5, 4)),
        "k": np.ones((2, 3, 5, 4)),
        "v": np.ones((2, 3, 5, 6)),
        "gamma": np.array([0.9, 0.95, 1.0]),
        "state": np.zeros((2, 3, 4, 6)),
    }
    return good | changes


def _ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


# What every retention refuses: changed arguments, error, message.
RETENTION_REFUSALS = {
    "q of rank 3": (
        {"q": _ones(2, 5, 4)},
        ValueError,
        "q must have 4 axes (batch, heads, time, key_dim), got shape (2, 5, 4)",
    ),
    "v of rank 5": (
        {"v": _ones(1, 2, 3, 5, 6)},
        ValueError,
        "v must have 4 axes (batch, heads, time, value_dim), got shape (1, 2, 3, 5, 6)",
    ),
    "k of another batch": (
        {"k": _ones(1, 3, 5, 4)},
        ValueError,
        "k must have shape (2, 3, 5, 4) (that of q), got (1, 3, 5, 4)",
    ),
    "k of other heads": (
        {"k": _ones(2, 1, 5, 4)},
        ValueError,
        "k must have shape (2, 3, 5, 4) (that of q), got (2, 1, 5, 4)",
    ),
    "k of another time": (
        {"k": _ones(2, 3, 6, 4)},
        ValueError,
        "k must have shape (2, 3, 5, 4) (that of q), got (2, 3, 6, 4)",
    ),
    "k of another key_dim": (
        {"k": _ones(2, 3, 5, 6)},
        ValueError,
        "k must have shape (2, 3, 5, 4) (that of q), got (2, 3, 5, 6)",
    ),
    "v of another batch": (
        {"v": _ones(1, 3, 5, 6)},
        ValueError,
        "v must have shape (2, 3, 5, 6) (batch, heads and time of q, then value_dim), got (1, 3, 5, 6)",
    ),
    "v of another time": (
        {"v": _ones(2, 3, 1, 6)},
        ValueError,
        "v must have shape (2, 3, 5, 6) (batch, heads and time of q, then value_dim), got (2, 3, 1, 6)",
    ),
    "gamma for one head": (
        {"gamma": np.array([0.9])},
        ValueError,
        "gamma must have shape (3,) (one decay for each head of q), got (1,)",
    ),
    "gamma of rank 2": (
        {"gamma": _ones(3, 1)},
        ValueError,
        "gamma must have shape (heads,), one decay a head, got (3, 1)",
    ),
    "gamma above 1": (
        {"gamma": np.array([0.9, 0.95, 1.5])},
        ValueError,
        "gamma must lie in (0, 1], got 1.5 at head 2",
    ),
    "gamma zero": ({"gamma": np.array([0.0, 0.95, 1.0])}, ValueError, "gamma must lie in (0, 1], got 0 at head 0"),
    "gamma negative": (
        {"gamma": np.array([0.9, -0.5, 1.0])},
        ValueError,
        "gamma must lie in (0, 1], got -0.5 at head 1",
    ),
    "gamma NaN": ({"gamma": np.array([0.9, np.nan, 1.0])}, ValueError, "gamma must lie in (0, 1], got nan at head 1"),
    "gamma a float": (
        {"gamma": 0.9},
        TypeError,
        "gamma must be an array (NumPy, torch or another array-API library), got float",
    ),
    "gamma float16": (
        {"gamma": np.ones(3, np.float16)},
        TypeError,
        "gamma must be float32 or float64, got float16",
    ),
    "v narrower than q": (
        {"v": _ones(2, 3, 5, 6, dtype=np.float32)},
        TypeError,
        "v must have dtype float64 like q, got float32",
    ),
    "q of another byte order": (
        {"q": _ones(2, 3, 5, 4, dtype=np.dtype(np.float64).newbyteorder())},
        TypeError,
        f"q must have dtype float16, bfloat16, float32, float64, got {np.dtype(np.float64).newbyteorder()}",
    ),
    "q of long doubles": (
        {"q": _ones(2, 3, 5, 4, dtype=np.longdouble)},
        TypeError,
        f"q must have dtype float16, bfloat16, float32, float64, got {np.dtype(np.longdouble)}",
    ),
    "q masked": (
        {"q": np.ma.ones((2, 3, 5, 4))},
        TypeError,
        "q must be an array (NumPy, torch or another array-API library), got MaskedArray",
    ),
    "gamma of integers": (
        {"gamma": np.ones(3, np.int64)},
        TypeError,
        "gamma must have dtype float16, bfloat16, float32, float64, got int64",
    ),
    "q of integers": (
        {"q": _ones(2, 3, 5, 4, dtype=np.int32)},
        TypeError,
        "q must have dtype float16, bfloat16, float32, float64, got int32",
    ),
    "q complex": (
        {"q": _ones(2, 3, 5, 4) * 1j},
        TypeError,
        "q must have dtype float16, bfloat16, float32, float64, got complex128",
    ),
    "v of bools": (
        {"v": _ones(2, 3, 5, 6, dtype=bool)},
        TypeError,
        "v must have dtype float16, bfloat16, float32, float64, got bool",
    ),
    "k narrower than q": (
        {"k": _ones(2, 3, 5, 4, dtype=np.float32)},
        TypeError,
        "k must have dtype float64 like q, got float32",
    ),
    "q a list": (
        {"q": [[[[1.0]]]]},
        TypeError,
        "q must be an array (NumPy, torch or another array-API library), got list",
    ),
    "k a torch tensor": (
        {"k": torch.ones(2, 3, 5, 4, dtype=torch.float64)},
        TypeError,
        "k must be an array of numpy like q, got one of torch",
    ),
    "gamma from another library": (
        {"gamma": array_api_strict.ones(3)},
        TypeError,
        "gamma must be an array of numpy like q, got one of array_api_strict",
    ),
    "state transposed": (
        {"state": _ones(2, 3, 6, 4)},
        ValueError,
        "state must have shape (2, 3, 4, 6) (batch, heads, key_dim, value_dim), got (2, 3, 6, 4)",
    ),
    "state of one batch": (
        {"state": _ones(1, 3, 4, 6)},
        ValueError,
        "state must have shape (2, 3, 4, 6) (batch, heads, key_dim, value_dim), got (1, 3, 4, 6)",
    ),
    "state too narrow": (
        {"state": _ones(2, 3, 4, 6, dtype=np.float32)},
        TypeError,
        "state must have dtype float64 when q is float64, got float32",
    ),
    "state of integers": (
        {"state": _ones(2, 3, 4, 6, dtype=np.int64)},
        TypeError,
        "state must have dtype float16, bfloat16, float32, float64, got int64",
    ),
}


def retention_refuses(retention, name):
    """One refusal of RETENTION_REFUSALS, by a retention."""
    changes, error, message = RETENTION_REFUSALS[name]
    _refused(lambda: retention(**_arguments(**changes)), error, message)


def refuses_other_devices(retention):
    """A tensor elsewhere (here torch's meta device, which every machine has) is refused by name."""
    arguments = {name: torch.asarray(x) for name, x in _arguments().items()}
    for name in ("k", "v", "gamma", "state"):
        message = f"{name} must be on device cpu like q, got device meta"
        elsewhere = arguments | {name: arguments[name].to("meta")}
        _refused(lambda elsewhere=elsewhere: retention(**elsewhere), ValueError, message)


def refuses_half_states(retention):
    """A bfloat16 state would cost 12 % of the answer at T = 1024; it is refused, not cast."""
    arguments = {name: torch.asarray(x).to(torch.bfloat16) for name, x in _arguments().items()}
    arguments["gamma"] = torch.tensor([0.9, 0.95, 1.0])
    _refused(
        lambda: retention(**(arguments | {"state": None, "gamma": arguments["gamma"].to(torch.bfloat16)})),
        TypeError,
        "gamma must be float32 or float64, got torch.bfloat16",
    )
    message = "state must have dtype torch.float32 when q is torch.bfloat16, got torch.bfloat16"
    _refused(lambda: retention(**arguments), TypeError, message)


# What the other public functions refuse: call on a package, error, message.
PACKAGE_REFUSALS = {
    "chunk_size 0": (
        lambda package: package.retention_chunkwise(**_arguments(), chunk_size=0),
        ValueError,
        "chunk_size must be at least 1, got 0",
    ),
    "chunk_size a float": (
        lambda package: package.retention_chunkwise(**_arguments(), chunk_size=4.0),
        TypeError,
        "chunk_size must be an integer, got 4.0 (float)",
    ),
    "chunk_size a bool": (
        lambda package: package.retention_chunkwise(**_arguments(), chunk_size=True),
        TypeError,
        "chunk_size must be an integer, got True (bool)",
    ),
    "a step of five tokens": (
        lambda package: package.retention_step(**_arguments()),
        ValueError,
        "q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = 5",
    ),
    "no heads": (
        lambda package: package.head_decays(0),
        ValueError,
        "num_heads must be at least 1, got 0",
    ),
    "half a head": (
        lambda package: package.head_decays(2.5),
        TypeError,
        "num_heads must be an integer, got 2.5 (float)",
    ),
    "unknown schedule": (
        lambda package: package.head_decays(4, "linear"),
        ValueError,
        "schedule must be one of 'released', 'paper', got 'linear'",
    ),
    "negative time": (
        lambda package: package.decay_mask(np.array([0.5]), -1),
        ValueError,
        "time must be at least 0, got -1",
    ),
    "rows not a slice": (
        lambda package: package.decay_mask(np.array([0.5]), 4, rows=2),
        TypeError,
        "rows must be a slice or None, got int",
    ),
    "mask with gamma above 1": (
        lambda package: package.decay_mask(np.array([1.01]), 4),
        ValueError,
        "gamma must lie in (0, 1], got 1.01 at head 0",
    ),
    "negative chunk": (
        lambda package: package.chunk_decays(np.array([0.5]), -1),
        ValueError,
        "length must be at least 0, got -1",
    ),
    "odd key_dim": (
        lambda package: package.rotate(np.ones((2, 3))),
        ValueError,
        "key_dim must be even, for channels turn in pairs, got 3",
    ),
    "odd key_dim with angles": (
        lambda package: package.rotate(np.ones((2, 3)), 0, np.ones(1)),
        ValueError,
        "key_dim must be even, for channels turn in pairs, got 3",
    ),
    "rotating a vector": (
        lambda package: package.rotate(np.ones(4)),
        ValueError,
        "x must have at least 2 axes (..., time, key_dim), got shape (4,)",
    ),
    "rotating integers": (
        lambda package: package.rotate(np.ones((2, 4), np.int64)),
        TypeError,
        "x must have dtype float16, bfloat16, float32, float64, got int64",
    ),
    "offset a float": (
        lambda package: package.rotate(np.ones((2, 4)), 1.5),
        TypeError,
        "offset must be an integer, got 1.5 (float)",
    ),
    "offsets for other sequences": (
        lambda package: package.rotate(np.ones((2, 3, 4)), np.array([1, 2, 3])),
        ValueError,
        "offset must have shape (2,) (one for each sequence), got (3,)",
    ),
    "offsets that are floats": (
        lambda package: package.rotate(np.ones((2, 3, 4)), np.array([1.0, 2.0])),
        TypeError,
        "offset must be an integer or an array of integers of numpy, got one of numpy and float64",
    ),
    "unknown ladder": (
        lambda package: package.rotate(np.ones((2, 4)), 0, "xpos"),
        ValueError,
        "ladder must be one of 'released', 'rotary', got 'xpos'",
    ),
    "too many angles": (
        lambda package: package.rotate(np.ones((2, 4)), 0, np.ones(3)),
        ValueError,
        "ladder must have shape (2,) (one angle for each channel pair of x), got (3,)",
    ),
    "dim that heads do not divide": (
        lambda package: package.RetNetConfig(dim=10, num_heads=4),
        ValueError,
        "dim must be a multiple of num_heads = 4 unless key_dim is given, got 10",
    ),
    "config without layers": (
        lambda package: package.RetNetConfig(num_layers=0),
        ValueError,
        "num_layers must be at least 1, got 0",
    ),
    "config with odd key_dim": (
        lambda package: package.RetNetConfig(key_dim=3),
        ValueError,
        "key_dim must be even, for channels turn in pairs, got 3",
    ),
    "config with a NaN eps": (
        lambda package: package.RetNetConfig(norm_eps=float("nan")),
        ValueError,
        "norm_eps must be finite, got nan",
    ),
    "config with a negative eps": (
        lambda package: package.RetNetConfig(norm_eps=-1e-6),
        ValueError,
        "norm_eps must be at least 0, got -1e-06",
    ),
    "config with words for eps": (
        lambda package: package.RetNetConfig(norm_eps="small"),
        TypeError,
        "norm_eps must be a number, got 'small' (str)",
    ),
    "config with a gamma above 1": (
        lambda package: package.RetNetConfig(gamma_schedule=1.5),
        ValueError,
        "gamma_schedule must be one of 'released', 'paper' or a gamma in (0, 1], got 1.5",
    ),
    "config with no schedule": (
        lambda package: package.RetNetConfig(gamma_schedule=None),
        TypeError,
        "gamma_schedule must be one of 'released', 'paper' or a gamma in (0, 1], got None",
    ),
    "config with an unknown feed-forward": (
        lambda package: package.RetNetConfig(ffn="relu"),
        ValueError,
        "ffn must be one of 'swiglu', 'geglu', 'gelu', got 'relu'",
    ),
    "config with a weight on no norm": (
        lambda package: package.RetNetConfig(group_norm=None, group_norm_affine=True),
        ValueError,
        "group_norm_affine must be False without a group_norm, got True",
    ),
    "params of another depth": (
        lambda package: _forward(package, np.array([[1]]), layers=[]),
        ValueError,
        "params: layers.0.ffn.w_1 is missing",
    ),
    "params of two dtypes": (
        lambda package: _forward(package, np.array([[1]]), head=np.ones((8, 11))),
        TypeError,
        "params: head must be ndarray of float32 like embedding, got ndarray of float64",
    ),
    "params of another width": (
        lambda package: _forward(package, np.array([[1]]), head=np.ones((8, 12), np.float32)),
        ValueError,
        "params: head must have shape (8, 11) (by the config), got (8, 12)",
    ),
    "a parameter too many": (
        lambda package: _forward(package, np.array([[1]]), bias=np.ones(11, np.float32)),
        ValueError,
        "params: bias is no parameter of this config",
    ),
    "tokens a list": (
        lambda package: _forward(package, [[1]]),
        TypeError,
        "tokens must be an array of the library of params, got list",
    ),
    "tokens of another library": (
        lambda package: _forward(package, torch.tensor([[1]])),
        TypeError,
        "tokens must be an array of the library of params, got Tensor",
    ),
    "a plain tuple for a state": (
        lambda package: _forward(package, np.array([[1]]), state=(0, (None,))),
        TypeError,
        "state must be a State that forward returned, or None, got tuple",
    ),
    "tokens of rank 1": (
        lambda package: _forward(package, np.array([1, 2])),
        ValueError,
        "tokens must have shape (batch, time), got (2,)",
    ),
    "tokens that are floats": (
        lambda package: _forward(package, np.array([[1.0]])),
        TypeError,
        "tokens must be integers, got float64",
    ),
    "token past the vocabulary": (
        lambda package: _forward(package, np.array([[1, 11]])),
        ValueError,
        "tokens must lie in [0, 11), got 11",
    ),
    "token below zero": (
        lambda package: _forward(package, np.array([[-1, 1]])),
        ValueError,
        "tokens must lie in [0, 11), got -1",
    ),
    "state of another depth": (
        lambda package: _forward(package, np.array([[1]]), state=package.State(0, (None, None))),
        ValueError,
        "state must hold 1 layers, got 2",
    ),
    "decoding a matrix of tokens": (
        lambda package: package.decode_step({}, np.array([[1]]), package.RetNetConfig()),
        ValueError,
        "tokens must have shape (batch,), one token a sequence, got (1, 1)",
    ),
}


def _forward(package, tokens, state=None, **changed_params):
    config = package.RetNetConfig(vocab_size=11, dim=8, num_layers=1, num_heads=2)
    return package.forward(package.init_params(config) | changed_params, tokens, config, state=state)


def package_refuses(package, name):
    """One refusal of PACKAGE_REFUSALS."""
    call, error, message = PACKAGE_REFUSALS[name]
    _refused(lambda: call(package), error, message)
