"""Exercise 12 against the retentions of the package, tiles against slices, costs against a walk through the tiles."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

import exercises
from exercises import check
from exercises.answers.ex12 import CHUNK, ROW, chunk_program, load, load_tile, row_program, state_distance
from refimpl import retention_chunkwise, retention_parallel
from refimpl.bench.flops import useful_flops


def cell(name):
    (path,) = Path(exercises.__file__).parent.glob("ex12_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(one["source"] for one in cells if one["id"] == name))


def draw(heads, time, key_dim=3, value_dim=5):
    """q, k (H, T, K), v (H, T, V), state (H, K, V) and gamma (H,)."""
    random = np.random.default_rng([heads, time])
    shapes = (heads, time, key_dim), (heads, time, key_dim), (heads, time, value_dim), (heads, key_dim, value_dim)
    return [random.standard_normal(shape) for shape in shapes], random.uniform(0.5, 1.0, heads)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 4), (4, 3), (16, 16)])
def test_tiles_are_slices_and_cover_the_array(rows, columns):
    heads, time, width = 2, 7, 9
    array = np.random.default_rng(0).standard_normal((heads, time, width))
    down, across = -(-time // rows), -(-width // columns)
    padded = np.zeros((heads, down * rows, across * columns))
    padded[:, :time, :width] = array
    for program in range(heads * down * across):
        head, row, column = program // (down * across), program // across % down, program % across
        want = padded[head, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
        np.testing.assert_array_equal(load_tile(array.ravel(), program, time, width, rows, columns), want)


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize("columns", [1, 2, 8])
def test_programs_of_all_chunks_give_the_chunkwise_form(chunk, columns):
    heads, time, value_dim = 2, 10, 5
    (q, k, v, state), gamma = draw(heads, time)
    want, last = retention_chunkwise(q[None], k[None], v[None], gamma, state[None], chunk_size=chunk)
    out, before = np.zeros(v.shape), state
    for begin in range(0, time, chunk):
        after = np.zeros(state.shape)
        for head in range(heads):
            for tile in range(-(-value_dim // columns)):
                memory = (x.ravel() for x in (q, k, v))
                place = time, 3, value_dim, head, begin, chunk, tile, columns
                o, S = chunk_program(*memory, gamma, before.ravel(), *place)
                kept, wide = min(chunk, time - begin), min(columns, value_dim - tile * columns)
                assert not np.any(o[kept:])
                assert not np.any(o[:, wide:])
                assert not np.any(S[:, wide:])
                across = slice(tile * columns, tile * columns + wide)
                out[head, begin : begin + kept, across], after[head, :, across] = o[:kept, :wide], S[:, :wide]
        before = after
    np.testing.assert_allclose(out, want[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(before, last[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 3, 4, 20])
def test_rows_of_tiles_give_the_parallel_form_and_read_nothing_after_the_row(tile):
    heads, time = 2, 10
    (q, k, v, _), gamma = draw(heads, time)
    want = retention_parallel(q[None], k[None], v[None], gamma)[0][0]
    for head in range(heads):
        for row in range(-(-time // tile)):
            seen = [x.copy() for x in (k, v)]
            for x in seen:
                x[:, (row + 1) * tile :] = np.nan
            memory = (x.ravel() for x in (q, *seen))
            o = row_program(*memory, gamma, time, 3, 5, head, row, tile, 0.0)
            kept = min(tile, time - row * tile)
            np.testing.assert_allclose(o[:kept], want[head, row * tile : row * tile + kept], rtol=0, atol=1e-12)
            assert not np.any(o[kept:])


def test_faint_tiles_are_those_below_the_largest_weight_of_the_mask():
    heads, time, tile, least = 1, 24, 4, 0.05
    (q, k, v, _), _ = draw(heads, time)
    gamma = np.array([0.7])
    lag = np.arange(time)[:, None] - np.arange(time)
    weights = np.where(lag >= 0, 0.7 ** np.maximum(lag, 0), 0.0)
    for row in range(time // tile):
        rows = slice(row * tile, (row + 1) * tile)
        for other in range(row):
            part = weights[rows, other * tile : (other + 1) * tile]
            if part.max() < least:
                part[...] = 0.0
        want = (weights[rows] * (q[0, rows] @ k[0].T)) @ v[0]
        got = row_program(*(x.ravel() for x in (q, k, v)), gamma, time, 3, 5, 0, row, tile, least)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_costs_are_those_of_a_walk_through_the_tiles():
    tile, tokens, heads, K, V, columns = 16, 256, 3, 24, 40, 16
    every = np.array([16.0, 32.0, 64.0, 256.0])
    moved, flops, best = state_distance(every, tile, tokens, heads, K, V, columns, 1e9, 1e10)
    for i, distance in enumerate(every.astype(int)):
        numbers, operations = 0, 0
        for _ in range(heads * tokens // distance):
            numbers += distance * (K + V) + 2 * K * V + distance * (2 * K + 2 * V)
            for row in range(distance // tile):
                for _ in range(row + 1):
                    operations += -(-V // columns) * 2 * tile * tile * K + 2 * tile * tile * V
            operations += distance * 4 * K * V
        assert moved[i] == 2 * numbers
        assert flops[i] == operations
    assert best[0] == every[np.argmin(np.maximum(moved / 1e9, flops / 1e10))]
    one, whole = (state_distance(np.array([1.0]), 1, tokens, heads, K, V, c, 1e9, 1e10)[1] for c in (V, V))
    assert one == whole == useful_flops("chunkwise", heads, tokens, K, V, 1)


def test_what_the_notebook_says_of_the_best_distance():
    every = np.array([128.0, 256.0, 512.0, 1024.0])
    sizes = 128, 16384, 16, 256, 512, 256
    moved, flops, best = state_distance(every, *sizes, 4e12, 5e14)
    times = moved / 4e12, flops / 5e14
    assert best == [256]
    assert times[0][0] > times[1][0]
    assert times[1][1] / times[0][1] == pytest.approx(1.1, abs=0.01)
    assert state_distance(every, *sizes, 4.22e12, 7.83e14)[2] == [512]
    assert "256 are best: the operations decide there, by a tenth; at 128 the bytes do" in cell("end")
    assert "it would be 512" in cell("end")


def test_the_notebook_gives_the_load_of_the_checks():
    assert cell("given").split() == inspect.getsource(load).split()
    memory = np.arange(4.0)
    assert load(memory, np.array([1, 9]), np.array([True, False])).tolist() == [1.0, 0.0]
    with pytest.raises(IndexError, match="an offset outside of memory is not masked"):
        load(memory, np.array([4]), True)


def test_a_first_attempt_in_float32_earns_every_visible_point_and_a_forgotten_mask_is_named(capsys):
    exec(cell("given"), namespace := {"np": np, "check": check})
    attempt = """
def chunk_program(q, k, v, gamma, state, time, key_dim, value_dim, head, begin, chunk, tile, columns):
    j, i, col = np.arange(chunk)[:, None], np.arange(key_dim), tile * columns + np.arange(columns)
    c = min(chunk, time - begin)
    n = head * time + begin + j
    Q = load(q, n * key_dim + i, MASK).astype(np.float32)
    K = load(k, n * key_dim + i, MASK).astype(np.float32)
    V = load(v, n * value_dim + col, (MASK) & (col < value_dim)).astype(np.float32)
    S = load(state, head * key_dim * value_dim + i[:, None] * value_dim + col, col < value_dim).astype(np.float32)
    g = gamma[head]
    D = np.tril(g ** np.maximum(j - j.T, 0))
    o = (D * (Q @ K.T)) @ V + g ** (j + 1) * (Q @ S)
    return o, g**c * S + K.T @ (g ** np.maximum(c - 1 - j, 0) * V)
"""
    for mask, words in (("j < c", f"{sum(not one.hidden for one in CHUNK.checks)} of"), ("n < n + 1", "not masked")):
        exec(attempt.replace("MASK", mask), namespace)
        exec("check('ex12', 'chunk_program')", namespace)
        assert words in " ".join(capsys.readouterr().out.split())


def test_arguments_that_hold_nan_are_read_nowhere():
    for one in ROW.checks:
        assert np.all(np.isfinite(row_program(*one.inputs.values())))


def test_the_table_names_what_triton_has():
    tl = pytest.importorskip("triton.language")
    named = set(re.findall(r"\btl\.(\w+)", cell("triton")))
    assert {"arange", "load", "store", "dot", "where", "maximum", "exp2", "log2", "program_id", "float32"} == named
    assert all(hasattr(tl, name) for name in named)
