"""Where recall breaks, in closed form: against a linear memory that is simulated here."""

import dataclasses
import tomllib

import numpy as np
import pytest
from paths import ROOT

from refimpl import head_decays, retention_parallel, rotate
from refimpl.training import capacity
from refimpl.training.capacity import (
    exact_pairs,
    overlap,
    pair_weights,
    predicted,
    recall_accuracy,
    shift_share,
    signal_to_noise,
    usable_width,
)
from refimpl.training.train import TrainConfig


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def simulated(weights, key_dim, value_dim, candidates, trials=1500, seed=0):
    """The share of right answers for each pair of a memory of random keys and values, read as a head reads its state."""
    rng, (heads, pairs) = np.random.default_rng(seed), weights.shape
    right = np.zeros(pairs)
    for _ in range(trials):
        keys, values = unit(rng, heads, pairs, key_dim), unit(rng, heads, candidates, value_dim)
        state = np.einsum("hn,hnk,hnv->hkv", weights, keys, values[:, :pairs])
        read = keys @ state  # (H, N, V): every pair asked for
        others = (weights**2).sum(axis=1, keepdims=True) - weights**2
        read = read / np.sqrt(weights**2 + others / key_dim)[..., None]
        right += (read @ values.mT).sum(axis=0).argmax(axis=1) == np.arange(pairs)
    return right / trials


@pytest.mark.parametrize(
    ("heads", "pairs", "key_dim", "value_dim", "gamma"),
    [
        (1, 8, 8, 16, [1.0]),
        (1, 36, 16, 32, [1.0]),
        (1, 24, 16, 32, [1.0]),
        (2, 16, 8, 16, [1.0, 1.0]),
        (4, 32, 8, 16, [1.0] * 4),
        (1, 16, 16, 32, [0.9]),
        (2, 16, 16, 32, [0.85, 0.99]),
    ],
)
def test_accuracy_is_that_of_a_simulated_memory(heads, pairs, key_dim, value_dim, gamma):
    weights = pair_weights(np.array(gamma), pairs)
    want = simulated(weights, key_dim, value_dim, 40)
    got = recall_accuracy(weights, overlap(key_dim), overlap(value_dim), 40)
    assert want.mean() < 0.995  # it breaks, so there is something to predict
    assert abs(got.mean() - want.mean()) < 0.04
    np.testing.assert_allclose(got, want, atol=0.1)  # each pair, old and young
    if gamma[0] < 1:
        assert want[0] < want[-1] - 0.1  # the oldest is lost first


def test_signal_to_noise_is_that_of_the_memory():
    rng, heads, pairs, width = np.random.default_rng(0), 4, 9, 8
    keys, values = unit(rng, 2000, heads, pairs, width), unit(rng, 2000, heads, pairs, 64)
    weights = np.einsum("thk,thnk->thn", keys[:, :, 0], keys[:, :, 1:])
    noise = np.einsum("thn,thnv->thv", weights, values[:, :, 1:])
    ratio = heads / np.sqrt((noise**2).sum(axis=(1, 2)).mean())  # signal H, noise of the heads adds in squares
    assert ratio == pytest.approx(signal_to_noise(pairs, width, heads), rel=0.02)


@pytest.mark.parametrize(("heads", "key_dim"), [(1, 4), (2, 3)])
def test_as_many_pairs_as_the_rank_are_read_exactly_and_no_more(heads, key_dim):
    rng, most = np.random.default_rng(0), exact_pairs(key_dim, heads)
    for pairs, exact in ((most, True), (most + 1, False)):
        keys, values = rng.standard_normal((pairs, most)), rng.standard_normal((pairs, 20))
        state = np.linalg.lstsq(keys, values, rcond=None)[0]  # (H K, V): the best of all states, whatever writes it
        assert np.allclose(keys @ state, values) == exact


def test_slow_channels_keep_a_match_and_fast_ones_lose_it():
    rng, width, lag = np.random.default_rng(0), 16, 64
    usable = usable_width(width, lag)
    assert usable == 10
    key = np.zeros((1, 1, 200, width))
    key[..., width - usable :] = unit(rng, 200, usable)  # the slow ones are the last
    match = (rotate(key, lag) * rotate(key)).sum(axis=-1)  # every token against itself, 64 tokens on
    cosines = (rotate(np.tile(key[:, :, :1], (1, 1, lag + 1, 1)))[..., -1, :] * key[:, :, 0]).sum()
    assert cosines > 0
    assert match.min() > 0
    fast = np.zeros((1, 1, 200, width))
    fast[..., : width - usable] = unit(rng, 200, width - usable)
    signs = [(rotate(fast, n) * rotate(fast)).sum(axis=-1).mean() for n in range(1, lag)]
    assert min(signs) < 0  # at some distance a key is taken for its opposite
    assert usable_width(2, 32) == 0


def test_the_token_before_is_read_alone_as_far_as_said():
    """By retention itself: queries and keys that are the same at every place, and heads summed with the best weights."""
    gamma, pairs, width = head_decays(2), 8, 4
    impulse = np.zeros((1, 2, 2 * pairs, 1))
    impulse[:, :, 0] = 1.0
    reads = []
    for pair in range(width // 2):
        for phase in (0, 1):
            q, k = np.zeros((2, 1, 2, 2 * pairs, width))
            q[..., 2 * pair], k[..., 2 * pair + phase] = 1.0, 1.0
            out, _ = retention_parallel(rotate(q), rotate(k), impulse, gamma)
            reads.extend(out[0, :, 1::2, 0])  # what is left of the impulse after 1, 3, ... tokens
    reads = np.stack(reads, axis=1)
    wanted = np.eye(pairs)[0]
    best = reads @ np.linalg.pinv(reads, rcond=0.01) @ wanted
    assert best @ wanted == pytest.approx(shift_share(width, gamma, pairs), abs=1e-6)
    assert shift_share(width, gamma, 64) < 0.5 < shift_share(32, gamma, 64)
    assert shift_share(width, gamma, pairs, None) < shift_share(width, gamma, pairs)


def test_unit_vectors_overlap_as_said():
    rng = np.random.default_rng(0)
    products = (unit(rng, 4000, 6) * unit(rng, 4000, 6)).sum(axis=1)
    assert (products**2).mean() == pytest.approx(overlap(6), rel=0.05)
    simplex = np.eye(7) - 1 / 7  # 7 vectors in 6 dimensions, as far apart as can be
    simplex /= np.linalg.norm(simplex, axis=1, keepdims=True)
    assert (simplex[0] @ simplex[1]) ** 2 == pytest.approx(overlap(6, 7))
    assert overlap(6, 6) == overlap(8, 6) == 0


def config(**shape):
    return TrainConfig(task="recall", window=32, pairs=(4, 8), vocab_size=64, dim=64, **shape)


@pytest.mark.parametrize(("file", "pairs"), [("recall", 64), ("recall_small", 8)])
def test_the_studies_hold_the_predictions(file, pairs):
    """RetNet's are those of `predicted`, gated retention's those of a state that forgets nothing."""
    settings = tomllib.loads((ROOT / "gpu" / "studies" / f"{file}.toml").read_text())
    variants = settings.pop("variants")
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    checked = 0
    for keys in variants.values():
        quoted, model = keys.pop("quoted"), keys.get("model", "retnet")
        if model in ("retnet", "gated") and "attention_every" not in keys:
            kept = {"gamma_schedule": 1.0} if model == "gated" else {}
            config = TrainConfig(**{name: value for name, value in (settings | keys | kept).items() if name in known})
            wanted = {
                f"{word} of {pairs}": predicted(config, pairs, most) for word, most in (("least", 0), ("most", 1))
            }
            assert quoted == {name: round(value, 2) for name, value in wanted.items()}
            checked += 1
        elif model == "transformer" or "attention_every" in keys:
            assert set(quoted.values()) == {1.0}  # its cache holds every pair
    assert checked >= 4


def test_predictions_move_as_they_must():
    narrow, wide = (config(num_heads=2, key_dim=width, value_dim=2 * width) for width in (4, 8))
    for learnt in (True, False):
        found = [predicted(narrow, pairs, learnt) for pairs in (2, 4, 8)]
        assert found == sorted(found, reverse=True)
        assert predicted(wide, 8, learnt) > found[-1] + 0.3
        assert predicted(config(num_heads=4, key_dim=4, value_dim=8), 8, learnt) > found[-1]
    assert predicted(narrow, 8) > predicted(narrow, 8, learnt=False)
    turning = config(num_heads=2, key_dim=2, value_dim=64)
    assert predicted(turning, 1) == 1 / 32  # no channel is slow enough, so chance is left
    assert capacity.signal_to_noise(1, 4) > 1e100
