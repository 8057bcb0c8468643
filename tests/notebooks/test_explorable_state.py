"""The movie of the state: its data are those of the shipped model, its states those of `retention_recurrent`."""

import numpy as np
from explorables import StateMovie
from explorables.node import compute

from refimpl import forward, retention_parallel, retention_recurrent
from refimpl.training.text import encode
from refimpl.weights import load_pretrained

START = {"n": 159, "slow": 5}
SETTINGS = [
    {},
    {"n": 1},
    {"n": 200},
    {"slow": 1},
    {"slow": 10},
    {"n": 43, "slow": 7},
    {"n": 42, "slow": 2},
    {"n": 2, "slow": 9},
]


def test_data_are_keys_and_values_of_the_shipped_model():
    data, (params, config), seen = StateMovie.course_data(), load_pretrained(), []

    def watched(q, k, v, gamma, state=None):
        seen.append((k, v, gamma))
        return retention_parallel(q, k, v, gamma, state)

    forward(params, encode(data["text"])[None], config, retention=watched)
    k, v, gamma = seen[0]
    assert (data["key_dim"], data["value_dim"]) == (config.key_dim, config.value_dim) == (k.shape[3], v.shape[3])
    assert gamma[0] == 1 - 2.0 ** -START["slow"], "the picture starts at the decay of the head"
    np.testing.assert_allclose(data["keys"], k[0, 0, :, :16], rtol=0, atol=5.1e-4)
    np.testing.assert_allclose(data["values"], v[0, 0, :, :16], rtol=0, atol=5.1e-3)


def test_numbers_are_those_of_the_recurrent_form():
    data = StateMovie.course_data()
    k, v = (np.array(data[name])[None, None] for name in ("keys", "values"))
    keys, values = data["key_dim"], data["value_dim"]
    for setting, got in zip(SETTINGS, compute(StateMovie, *SETTINGS), strict=True):
        n, slow = (START | setting).values()
        gamma = np.array([1 - 2.0**-slow])

        states, state = [np.zeros((16, 16))], None
        for m in range(200):
            state = retention_recurrent(k[:, :, [m]], k[:, :, [m]], v[:, :, [m]], gamma, state)[1]
            states.append(state[0, 0])
        shares = gamma[0] ** np.arange(n - 1, -1, -1.0)
        caches = np.arange(201) * (keys + values)
        want = {
            "gamma": gamma[0], "state": states[n], "faded": gamma[0] * states[n - 1],
            "written": np.outer(k[0, 0, n - 1], v[0, 0, n - 1]), "full": np.abs(states).max() / 2, "shares": shares,
            "half": np.log(2) / -np.log(gamma[0]), "left": (shares >= 0.01).sum(), "held": keys * values,
            "cache": caches[n], "ratio": caches[n] / (keys * values), "crossing": np.argmax(caches > keys * values),
        }  # fmt: skip
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
