"""Numbers worked by hand from arXiv:2307.08621v4, each citing its equation.

None comes from running this package or the oracle. A fact is a public function of a package that offers
the names of refimpl, so that the tests can also call it with broken copies; FACTS holds all of them.
"""

import inspect
import math
from fractions import Fraction

import numpy as np


def _single(*numbers):
    """One batch, one head, one channel, and these tokens."""
    return np.array(numbers, dtype=np.float64).reshape(1, 1, -1, 1)


# q = 1 2 3, k = 1 1 2, v = 1 2 4, gamma = 1/2. By Eq. 6 the states are
#   S_1 = 1 * 1 = 1,  S_2 = 1/2 + 1 * 2 = 5/2,  S_3 = 5/4 + 2 * 4 = 37/4,
# and o_n = q_n S_n = 1, 5, 111/4.
Q, K, V, HALF = _single(1, 2, 3), _single(1, 1, 2), _single(1, 2, 4), np.array([0.5])


def eq5_parallel_by_hand(package):
    """Eq. 5: row 3 is 3 (1/4 * 1 * 1 + 1/2 * 1 * 2 + 1 * 2 * 4) = 111/4."""
    out, state = package.retention_parallel(Q, K, V, HALF)
    assert out.ravel().tolist() == [1, 5, 27.75]
    assert state.item() == 9.25


def eq6_recurrent_by_hand(package):
    """Eq. 6, and one step more from S_3 = 37/4: q = 2, k = 1, v = 3 gives S_4 = 37/8 + 3, o_4 = 61/4."""
    out, state = package.retention_recurrent(Q, K, V, HALF)
    assert out.ravel().tolist() == [1, 5, 27.75]
    out, state = package.retention_step(_single(2), _single(1), _single(3), HALF, state)
    assert state.item() == 7.625
    assert out.item() == 15.25


def eq7_chunkwise_by_hand(package):
    """Eq. 7 with C = 2: the second chunk is ragged, o_3 = (3 * 2) 4 + 3 S_2 xi_1 = 24 + 3 * 5/2 * 1/2."""
    out, state = package.retention_chunkwise(Q, K, V, HALF, chunk_size=2)
    assert out.ravel().tolist() == [1, 5, 27.75]
    assert state.item() == 9.25


def eq7_xi_and_zeta_by_hand(package):
    """Eq. 7: xi_j = gamma^j and zeta_j = gamma^(C-j), j = 1 ... C."""
    xi, zeta, whole = package.chunk_decays(HALF, 3)
    assert xi.tolist() == [[1 / 2, 1 / 4, 1 / 8]]
    assert zeta.tolist() == [[1 / 4, 1 / 2, 1]]
    assert whole.tolist() == [1 / 8]


def eq5_decay_mask_by_hand(package):
    """Eq. 5: D for gamma = 1/2; each row sums to (1 - gamma^n) / (1 - gamma)."""
    mask = package.decay_mask(HALF, 4)[0]
    assert mask.tolist() == [[1, 0, 0, 0], [1 / 2, 1, 0, 0], [1 / 4, 1 / 2, 1, 0], [1 / 8, 1 / 4, 1 / 2, 1]]
    assert mask.sum(axis=1).tolist() == [1, 3 / 2, 7 / 4, 15 / 8]


def eq8_released_decays(package):
    """Eq. 8: gamma = 1 - 2^(-5-h): 31/32, 63/64, ..., 4095/4096, exactly; windows of 32 ... 4096 tokens."""
    gamma = package.head_decays(8)
    assert [Fraction(g) for g in gamma.tolist()] == [1 - Fraction(1, 2 ** (5 + h)) for h in range(8)]
    assert gamma[0] == 31 / 32
    assert gamma[7] == 4095 / 4096


def experiment_decays(package):
    """The setting of the paper's experiments: gamma = 1 - exp(linspace(log 1/32, log 1/512, H)).

    H = 3 has the geometric mean 1/128 in the middle; H = 5 is Eq. 8; H = 1 is 31/32.
    """
    close = {"rtol": 0, "atol": 1e-15}
    np.testing.assert_allclose(package.head_decays(3, "paper"), [31 / 32, 127 / 128, 511 / 512], **close)
    np.testing.assert_allclose(package.head_decays(5, "paper"), package.head_decays(5), **close)
    np.testing.assert_allclose(package.head_decays(1, "paper"), [31 / 32], **close)
    np.testing.assert_allclose(package.head_decays(5, "quarter")[[0, 4]], [31 / 32, 63 / 64], **close)
    assert abs(package.head_decays(8, "paper")[3] - package.head_decays(8)[3]) > 1e-4


def eq8_log_decays_survive_float32(package):
    """log(1 - x) = -x - x^2/2 - ...: at x = 2^-25 it is -2^-25 in float32, where 1 - x is 1 and its logarithm 0."""
    assert np.float32(package.head_decays(21)[20]) == 1
    assert np.float32(package.head_decays(21, log=True)[20]) == -np.float32(2.0**-25)
    # log(31/32) = -2 artanh(1/63) = -2 (1/63 + 1/(3 * 63^3) + 1/(5 * 63^5) + ...)
    series = -2 * sum(1 / ((2 * i + 1) * 63 ** (2 * i + 1)) for i in range(5))
    assert math.isclose(package.head_decays(1, log=True)[0], series, rel_tol=1e-15)


def forgetting_times(package):
    """gamma^n first falls below 1e-7 at n = ceil(7 ln 10 / -ln gamma): 508, 1024, 2056 and 4119 for heads 0-3."""
    mask = package.decay_mask(package.head_decays(4), 4120, rows=slice(-1, None))[:, 0, ::-1]  # gamma^0, gamma^1, ...
    assert [int(np.argmax(row < 1e-7)) for row in mask] == [508, 1024, 2056, 4119]


def eq4_rotation_by_hand(package):
    """Eq. 4: e^(i n theta) with theta = pi/2 turns (1, 0) to (0, 1) at n = 1 and to (-1, 0) at n = 2."""
    x = np.array([[1.0, 0.0]] * 3)
    np.testing.assert_allclose(package.rotate(x, 0, np.array([math.pi / 2])), [[1, 0], [0, 1], [-1, 0]], atol=1e-15)


def released_and_rotary_frequencies(package):
    """10000^-linspace(0, 1, K/2) of the released code; 10000^(-2i/K) of rotary embeddings. For K = 8."""
    third = 10000 ** (1 / 3)
    np.testing.assert_allclose(package.rotation_frequencies(8), [1, 1 / third, 1 / third**2, 1e-4], rtol=1e-14)
    np.testing.assert_allclose(package.rotation_frequencies(8, "rotary"), [1, 0.1, 0.01, 0.001], rtol=1e-14)
    assert package.rotation_frequencies(2).tolist() == [1.0]


def rotation_far_out(package):
    """cos and sin of 10^6 radians, to 16 digits from a table; float32 angles are off by 3e-2 there."""
    turned = package.rotate(np.array([[1.0, 0.0]], dtype=np.float32), 1_000_000)
    np.testing.assert_allclose(turned, [[0.9367521275331447, -0.3499935021712930]], atol=1e-7)


def table_of_sizes(package):
    """The paper's table of model sizes, 1.3B: d = 2048, 8 heads, K = 256, V = 512; a state is 2 d K numbers = K tokens of KV cache."""
    config = package.RetNetConfig(dim=2048, num_heads=8)
    assert (config.key_dim, config.value_dim) == (256, 512)
    assert config.num_heads * config.key_dim * config.value_dim == 2 * 2048 * 256


def parameters_of_a_block(package):
    """The paper's parameter allocation: W_Q, W_K are d^2, W_G, W_V, W_O are 2 d^2: 8 d^2 for retention."""
    layer = package.init_params(package.RetNetConfig(dim=32, num_heads=2, num_layers=1))["layers"][0]
    assert sum(w.size for w in layer["retention"].values()) == 8 * 32**2


def released_initialisation(package):
    """The released code's gains: uniform within g sqrt(6 / (in + out)), g = 2^-2.5 for q, k, v, gate and 1/2 for W_O;
    the feed-forward within 1/sqrt(in); embedding and head of deviation d^-1/2. Large matrices come within 2 % of these.
    """
    config = package.RetNetConfig(dim=64, num_heads=2, num_layers=2)
    params = package.init_params(config, dtype=np.float64)
    for layer in params["layers"]:
        gains = {"w_q": 2**-2.5, "w_k": 2**-2.5, "w_v": 2**-2.5, "w_g": 2**-2.5, "w_o": 0.5}
        bounds = {name: gain * math.sqrt(6 / sum(layer["retention"][name].shape)) for name, gain in gains.items()}
        bounds |= {name: layer["ffn"][name].shape[0] ** -0.5 for name in ("w_1", "w_gate", "w_2")}
        for name, weight in (layer["retention"] | layer["ffn"]).items():
            assert 0.98 * bounds[name] < np.abs(weight).max() <= bounds[name], name
            assert abs(weight.std() / bounds[name] - 3**-0.5) < 0.02, name
        assert (layer["retention_norm"] == 1).all()
    assert not np.array_equal(*(layer["retention"]["w_q"] for layer in params["layers"]))
    for name in ("embedding", "head"):
        assert abs(params[name].std() * 8 - 1) < 0.02
    assert layer["ffn"]["w_1"].shape == (64, 128)


def eq8_layer_by_hand(package):
    """Eq. 8 with d = 2, one head, every projection made of ones, x = (1, 1) at position 0 and K = V = 2.

    q = k = v = (2, 2); k is scaled by 1/sqrt 2, so q.k = 8/sqrt 2 and o = (8 sqrt 2, 8 sqrt 2), which the group norm
    takes to (1, 1). The gate is swish(2) = 2 / (1 + e^-2) for both; W_O sums the two: 4 / (1 + e^-2).
    """
    config = package.RetNetConfig(dim=2, num_heads=1, key_dim=2, value_dim=2, norm_eps=0.0)
    params = {name: np.ones((2, 2)) for name in ("w_q", "w_k", "w_v", "w_g", "w_o")}
    out, state = package.multi_scale_retention(params, np.ones((1, 1, 2)), config)
    np.testing.assert_allclose(out, np.full((1, 1, 2), 4 / (1 + math.exp(-2))), rtol=1e-14)
    np.testing.assert_allclose(state, np.full((1, 1, 2, 2), 2 * math.sqrt(2)), rtol=1e-14)


FACTS = tuple(
    value
    for name, value in list(globals().items())
    if inspect.isfunction(value) and value.__module__ == __name__ and not name.startswith("_")
)
