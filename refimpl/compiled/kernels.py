"""Compiled twins of the retentions and their gradients: the same contract, the same numbers, for NumPy arrays.

Numba compiles each function on its first call and keeps the machine code on disk. Heads are shared out to
threads. Memory beyond inputs and outputs does not grow with T, except that halves and arrays that are not
contiguous are copied once. Equations: arXiv:2307.08621v4.

The gradient of a retention is a retention: with G = dL/dO, dQ is the retention of (G, V, K), and dV and dK are those of
(K, Q, G) and (V, G, Q), run backwards in time. So the gradients below are made of the pieces of the forward pass.
"""

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..backward import _prepare_backward
from ..checks import check_integer, check_numpy
from ..decay import chunk_decays_of, in_two_parts
from ..retention import _carry, _prepare
from .threads import over_heads

# A tile of a product is ROWS vectors, which stay in registers while it is summed: 8 hide the latency of one
# multiply-add and leave registers for the operands, with AVX2 (16 of 32 bytes) as with AVX-512 (32 of 64) and NEON.
ROWS = 8
VECTOR_BYTES = 64 if binding.get_host_cpu_features().get("avx512f") else 32

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_over_heads = njit(**_OPTIONS)
# For what only compiled code calls, so no way in from Python is compiled. A multiplication and an addition may be fused,
# and nothing else of fastmath: NaN and infinity must come out where they went in.
_compiled = njit(**_OPTIONS, fastmath={"contract"}, no_cpython_wrapper=True, no_cfunc_wrapper=True)


# ---------------------------------------------------------------- the public functions


def retention_recurrent_numba(q, k, v, gamma, state=None):
    """Token by token (Eq. 6): `refimpl.retention_recurrent`, compiled.

    O(T) time, O(1) memory beyond inputs and outputs.

    q, k (B, H, T, K) and v (B, H, T, V), NumPy arrays of one real floating dtype; gamma (H,) float32 or float64 in
    (0, 1]; state (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last
    token, float64 for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the
    argument.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent_numba(one, one, one, np.asarray([0.5]))[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    out, state = _recurrent(q, k, v, gamma, state)
    return out.astype(dtype, copy=False), state


def retention_step_numba(q, k, v, gamma, state=None):
    """One token (Eq. 6): `refimpl.retention_step`, compiled. T must be 1, or ValueError.

    q, k (B, H, T, K) and v (B, H, T, V), NumPy arrays of one real floating dtype; gamma (H,) float32 or float64 in
    (0, 1]; state (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last
    token, float64 for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the
    argument.

    >>> one = np.ones((1, 1, 1, 1))
    >>> out, state = retention_step_numba(one, one, one, np.asarray([0.5]), state=one)
    >>> out.ravel(), state.ravel()
    (array([1.5]), array([1.5]))
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    if q.shape[2] != 1:
        raise ValueError(f"q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = {q.shape[2]}")
    out, state = _recurrent(q, k, v, gamma, state)
    return out.astype(dtype, copy=False), state


def retention_chunkwise_numba(q, k, v, gamma, state=None, *, chunk_size=64):
    """Parallel inside chunks of C tokens, recurrent from chunk to chunk (Eq. 7): `refimpl.retention_chunkwise`, compiled.

    H T (2 C (K + V) + 4 K V) floating-point operations, of which those above the diagonal of the scores, about
    H T C (K + V), are left out. chunk_size: an integer of at least 1, dividing T or not.

    q, k (B, H, T, K) and v (B, H, T, V), NumPy arrays of one real floating dtype; gamma (H,) float32 or float64 in
    (0, 1]; state (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last
    token, float64 for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the
    argument.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise_numba(one, one, one, np.asarray([0.5]), chunk_size=2)[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    out, state = _chunkwise(q, k, v, gamma, state, check_integer("chunk_size", chunk_size, minimum=1))
    return out.astype(dtype, copy=False), state


def retention_recurrent_backward_numba(q, k, v, gamma, grad_out, state=None, grad_state=None):
    """Gradients of the recurrent form, token by token: forwards for dq, backwards for dk and dv.

    S_n = gamma S_(n-1) + k_n^T v_n, dq_n = G_n S_n^T; R_n = gamma R_(n+1) + q_n^T G_n, dk_n = v_n R_n^T, dv_n = k_n R_n,
    where gamma R_(T+1) stands for dL/dS_T; dL/dS_0 = gamma R_1 (the transpose of Eq. 6).

    q, k, v, gamma, state as in `retention_recurrent_numba`; grad_out dL/dO (B, H, T, V) in v's dtype; grad_state
    dL/dS_T (B, H, K, V) in the state's dtype, or None for zero. Returns dq, dk (B, H, T, K), dv (B, H, T, V) in v's
    dtype and dstate (B, H, K, V) in the state's. Anything else: TypeError or ValueError naming the argument.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent_backward_numba(one, one, one, np.asarray([0.5]), one)[2].ravel()
    array([1.75, 1.5 , 1.  ])
    """
    q, k, v, grad_out, state, grad_state, dtype = _prepare_numpy_backward(q, k, v, gamma, grad_out, state, grad_state)
    dq, _ = _recurrent(grad_out, v, k, gamma, state.mT)
    dk, _ = _recurrent(v, grad_out, q, gamma, grad_state.mT, backwards=True)
    dv, dstate = _recurrent(k, q, grad_out, gamma, grad_state, backwards=True)
    return *(x.astype(dtype, copy=False) for x in (dq, dk, dv)), dstate


def retention_chunkwise_backward_numba(q, k, v, gamma, grad_out, state=None, grad_state=None, *, chunk_size=64):
    """Gradients of the chunkwise form: both recurrences of the recurrent form run once a chunk.

    With W = (G V^T) * D and A = (Q K^T) * D in a chunk, S the state before it and R what comes back from after it:
    dQ = W K + (G S^T) * xi, dK = W^T Q + (V R^T) * zeta, dV = A^T G + (K R) * zeta and, for the chunk before,
    gamma^c R + (Q * xi)^T G (the transpose of Eq. 7).

    q, k, v, gamma, state, chunk_size as in `retention_chunkwise_numba`; grad_out dL/dO (B, H, T, V) in v's dtype;
    grad_state dL/dS_T (B, H, K, V) in the state's dtype, or None for zero. Returns dq, dk (B, H, T, K), dv (B, H, T, V)
    in v's dtype and dstate (B, H, K, V) in the state's. Anything else: TypeError or ValueError naming the argument.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise_backward_numba(one, one, one, np.asarray([0.5]), one, chunk_size=2)[2].ravel()
    array([1.75, 1.5 , 1.  ])
    """
    q, k, v, grad_out, state, grad_state, dtype = _prepare_numpy_backward(q, k, v, gamma, grad_out, state, grad_state)
    chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    dq, _ = _chunkwise(grad_out, v, k, gamma, state.mT, chunk_size)
    dk, dv, dstate = np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype), grad_state.copy()
    for length, first, count in reversed(_spans(q.shape[2], chunk_size)):
        tables = _tables(gamma, length, q.dtype)
        _share(_chunkwise_backward_heads, q, k, v, grad_out, dk, dv, dstate, *tables, first, count)
    return *(x.astype(dtype, copy=False) for x in (dq, dk, dv)), dstate


# ---------------------------------------------------------------- from the door to the kernels


def _prepare_numpy(q, k, v, gamma, state):
    """`retention._prepare`, which checks and casts, for NumPy arrays alone."""
    q, k, v, state, dtype = _prepare(q, k, v, gamma, state)
    check_numpy(q=q)  # the others are of the same library
    return *map(np.ascontiguousarray, (q, k, v)), state, dtype


def _prepare_numpy_backward(*arguments):
    """`backward._prepare_backward`, which checks and casts."""
    q, k, v, grad_out, state, grad_state, dtype = _prepare_backward(*arguments)
    return *map(np.ascontiguousarray, (q, k, v, grad_out)), state, grad_state, dtype


def _spans(time, chunk_size):
    """(chunk length c, first token, number of chunks) of the whole chunks and of the ragged last one, if any."""
    whole, ragged = divmod(time, chunk_size)
    spans = (chunk_size, 0, whole), (ragged, whole * chunk_size, 1)
    return [span for span in spans if span[0] and span[2]]


def _tables(gamma, length, dtype):
    """xi, zeta (H, c) and gamma^c, in two parts (H,) each, in dtype."""
    xi, zeta, whole = chunk_decays_of(gamma.astype(np.float64), length)
    return xi.astype(dtype), zeta.astype(dtype), *(part.ravel() for part in in_two_parts(whole, dtype))


def _recurrent(q, k, v, gamma, state, backwards=False):
    """Eq. 6. Backwards in time the state decays after a token and not before it, so the first token finds it whole."""
    decay = in_two_parts(gamma, q.dtype)
    high, low = (part.ravel() for part in decay)
    first = (np.ones_like(high), np.zeros_like(low)) if backwards else (high, low)
    out, end = np.empty(v.shape, v.dtype), np.empty(state.shape, state.dtype)
    _share(_recurrent_heads, q, k, v, np.ascontiguousarray(state), end, out, *first, high, low, backwards)
    return out, _carry(decay, end, 0.0) if backwards and q.shape[2] else end


def _chunkwise(q, k, v, gamma, state, chunk_size):
    """Eq. 7, first for the whole chunks and then for the ragged one."""
    out, state = np.empty(v.shape, v.dtype), np.array(state, order="C")
    for length, first, count in _spans(q.shape[2], chunk_size):
        tables = _tables(gamma, length, q.dtype)
        _share(_chunkwise_heads, q, k, v, state, out, *tables, first, count)
    return out, state


def _share(kernel, q, k, v, *arguments):
    """Give the B H heads to threads."""
    over_heads(kernel, q.shape[0] * q.shape[1], 2 * q.size * v.shape[3], q, k, v, *arguments)


# ---------------------------------------------------------------- the kernels: turn n is head h of sequence b


@_over_heads
def _recurrent_heads(start, stop, q, k, v, state, end, out, high_0, low_0, high, low, backwards):
    for n in range(start, stop):
        b, h = divmod(n, q.shape[1])
        _recurrent_head(
            q[b, h],
            k[b, h],
            v[b, h],
            state[b, h],
            end[b, h],
            out[b, h],
            high_0[h],
            low_0[h],
            high[h],
            low[h],
            backwards,
        )


@_over_heads
def _chunkwise_heads(start, stop, q, k, v, state, out, xi, zeta, high, low, first, count):
    for n in range(start, stop):
        b, h = divmod(n, q.shape[1])
        _chunkwise_head(
            q[b, h], k[b, h], v[b, h], state[b, h], out[b, h], xi[h], zeta[h], high[h], low[h], first, count
        )


@_over_heads
def _chunkwise_backward_heads(start, stop, q, k, v, grad, dk, dv, dstate, xi, zeta, high, low, first, count):
    for n in range(start, stop):
        b, h = divmod(n, q.shape[1])
        _chunkwise_backward_head(
            q[b, h],
            k[b, h],
            v[b, h],
            grad[b, h],
            dk[b, h],
            dv[b, h],
            dstate[b, h],
            xi[h],
            zeta[h],
            high[h],
            low[h],
            first,
            count,
        )


@_compiled
def _recurrent_head(q, k, v, state, end, out, high_0, low_0, high, low, backwards):
    """Eq. 6, gamma in two parts, which for the first token are others."""
    time, key_dim, value_dim = q.shape[0], q.shape[1], v.shape[1]
    _copy(end, 0, 1, state, 0, 1, key_dim, value_dim)
    for n in range(time):
        token = time - 1 - n if backwards else n
        decay, rest = (high, low) if n else (high_0, low_0)
        for j in range(value_dim):
            out[token, j] = 0
        for i in range(key_dim):
            for j in range(value_dim):
                end[i, j] = decay * end[i, j] + (rest * end[i, j] + k[token, i] * v[token, j])
                out[token, j] += q[token, i] * end[i, j]


@_compiled
def _chunkwise_head(q, k, v, state, out, xi, zeta, high, low, first, count):
    """Eq. 7, for `count` chunks from token `first` on."""
    length, key_dim, value_dim = xi.size, q.shape[1], v.shape[1]
    queries, keys, values = _matrix(length, key_dim, xi), _matrix(key_dim, length, xi), _matrix(length, value_dim, xi)
    scores, outs, carried = _matrix(length, length, xi), _matrix(length, value_dim, xi), _matrix(key_dim, value_dim, xi)
    _copy(carried, 0, 1, state, 0, 1, key_dim, value_dim)
    for n in range(count):
        start = first + n * length
        _copy(queries, 0, 1, q, start, 1, length, key_dim)
        _transpose(keys, k, start, 1, length, key_dim)
        _copy(values, 0, 1, v, start, 1, length, value_dim)
        _chunk(outs, queries, keys, values, carried, scores, zeta, xi, zeta, high, low, key_dim, value_dim, True)
        _copy(out, start, 1, outs, 0, 1, length, value_dim)
    _copy(state, 0, 1, carried, 0, 1, key_dim, value_dim)


@_compiled
def _chunkwise_backward_head(q, k, v, grad, dk, dv, dstate, xi, zeta, high, low, first, count):
    """dK, dV and dL/dS: Eq. 7 with time running backwards, where xi and zeta change places."""
    length, key_dim, value_dim = xi.size, q.shape[1], v.shape[1]
    narrow, queries, scores = _matrix(length, key_dim, xi), _matrix(key_dim, length, xi), _matrix(length, length, xi)
    values, grads, wide = _matrix(length, value_dim, xi), _matrix(length, value_dim, xi), _matrix(length, value_dim, xi)
    turned = _matrix(value_dim, length, xi)
    carried, carried_turned = _matrix(key_dim, value_dim, xi), _matrix(value_dim, key_dim, xi)
    after, before = zeta[::-1].copy(), xi[::-1].copy()
    _copy(carried, 0, 1, dstate, 0, 1, key_dim, value_dim)
    for n in range(count - 1, -1, -1):
        last = first + (n + 1) * length - 1
        _copy(grads, 0, 1, grad, last, -1, length, value_dim)

        _copy(values, 0, 1, v, last, -1, length, value_dim)
        _transpose(turned, grads, 0, 1, length, value_dim)
        _copy(narrow, 0, 1, q, last, -1, length, key_dim)
        _transpose(carried_turned, carried, 0, 1, key_dim, value_dim)
        _chunk(
            wide,
            values,
            turned,
            narrow,
            carried_turned,
            scores,
            zeta,
            after,
            before,
            high,
            low,
            value_dim,
            key_dim,
            False,
        )
        _copy(dk, last, -1, wide, 0, 1, length, key_dim)

        _transpose(queries, narrow, 0, 1, length, key_dim)
        _copy(narrow, 0, 1, k, last, -1, length, key_dim)
        _chunk(wide, narrow, queries, grads, carried, scores, zeta, after, before, high, low, key_dim, value_dim, True)
        _copy(dv, last, -1, wide, 0, 1, length, value_dim)
    _copy(dstate, 0, 1, carried, 0, 1, key_dim, value_dim)


@_compiled
def _chunk(out, q, keys, v, state, scores, zeta, read, write, high, low, key_dim, value_dim, carry):
    """One chunk: O = (Q K^T * D) V + (Q * read) S and, if `carry`, S = gamma^c S + (K * write)^T V, keys being K^T.

    Forwards, read is xi and write is zeta. gamma^c is in two parts. Q and K^T are left multiplied by read and write.
    """
    length, lanes = zeta.size, VECTOR_BYTES // out.itemsize
    for i in range(0, length, ROWS):
        for j in range(0, min(i + ROWS, length), lanes):  # tiles above the diagonal are left out
            _tile(scores, q, keys, i, j, key_dim, False)
    for n in range(length):
        for m in range(n + 1):
            scores[n, m] *= zeta[length - 1 - n + m]  # D_nm, for zeta is gamma^(c-1), ..., gamma, 1
        for m in range(n + 1, scores.shape[1]):
            scores[n, m] = 0
    for n in range(length):
        for i in range(key_dim):
            q[n, i] *= read[n]
    for i in range(key_dim):
        for n in range(length):
            keys[i, n] *= write[n]
    for i in range(0, length, ROWS):
        for j in range(0, value_dim, lanes):
            _tile(out, q, state, i, j, key_dim, False)
            _tile(out, scores, v, i, j, min(i + ROWS, length), True)
    if carry:
        for i in range(key_dim):
            for j in range(value_dim):
                state[i, j] = high * state[i, j] + low * state[i, j]
        for i in range(0, key_dim, ROWS):
            for j in range(0, value_dim, lanes):
                _tile(state, keys, v, i, j, length, True)


# ---------------------------------------------------------------- matrices in whole tiles


@_compiled
def _matrix(rows, columns, like):
    """Zeros (rows, columns) with room for whole tiles: they may run over the edge, and what they leave there is not read.

    A row is one vector longer than that, lest the rows of a power of two fall on the same few cache sets.
    """
    lanes = VECTOR_BYTES // like.itemsize
    return np.zeros((-(-rows // ROWS) * ROWS, (-(-columns // lanes) + 1) * lanes), like.dtype)


@_compiled
def _copy(to, to_row, to_step, x, row, step, rows, columns):
    """Rows row, row + step, ... of x become rows to_row, to_row + to_step, ..."""
    for n in range(rows):
        for i in range(columns):
            to[to_row + to_step * n, i] = x[row + step * n, i]


@_compiled
def _transpose(to, x, row, step, rows, columns):
    """Rows row, row + step, ... of x become columns: whole squares of vectors in registers, the edges one by one."""
    lanes = VECTOR_BYTES // x.itemsize
    whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
    for n in range(0, whole_rows, lanes):
        for i in range(0, whole_columns, lanes):
            _square(to, x, row + step * n, step, n, i)
    for n in range(rows):
        for i in range(whole_columns if n < whole_rows else 0, columns):
            to[i, n] = x[row + step * n, i]


@intrinsic
def _square(typing, to, x, row, step, n, i):
    """Columns i, i + 1, ... of x, of its rows row, row + step, ..., become rows i, i + 1, ... of `to` from column n on.

    As many rows as a vector has elements. To zip row r with row r + lanes / 2 turns the order of the index bits by
    one place, so after log2(lanes) rounds the row's bits and the column's have changed places.
    """

    def generate(context, builder, signature, arguments):
        matrices = signature.args[:2]
        to, x = (context.make_array(kind)(context, builder, a) for kind, a in zip(matrices, arguments, strict=False))
        row, step, n, i = arguments[2:]
        size = context.get_abi_sizeof(context.get_data_type(matrices[0].dtype))
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(context.get_data_type(matrices[0].dtype), lanes)

        def place(kind, array, row, column):
            pointer = cgutils.get_item_pointer(context, builder, kind, array, [row, column])
            return builder.bitcast(pointer, vector.as_pointer())

        def number(index):
            return ir.Constant(i.type, index)

        def zipped(one, other, start):
            order = [start + lane // 2 + lane % 2 * lanes for lane in range(lanes)]
            return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), lanes), order))

        rows = [builder.add(row, builder.mul(step, number(r))) for r in range(lanes)]
        vectors = [builder.load(place(matrices[1], x, r, i), align=size) for r in rows]
        for _ in range(lanes.bit_length() - 1):
            pairs = zip(vectors[: lanes // 2], vectors[lanes // 2 :], strict=True)
            vectors = [zipped(*pair, start) for pair in pairs for start in (0, lanes // 2)]
        for column, found in enumerate(vectors):
            builder.store(found, place(matrices[0], to, builder.add(i, number(column)), n), align=size)
        return context.get_dummy_value()

    return types.void(to, x, types.intp, types.intp, types.intp, types.intp), generate


@intrinsic
def _tile(typing, c, a, b, i, j, depth, add):
    """C = A B, or C += A B, for ROWS rows from i on and one vector of columns from j on, summed over `depth`.

    Each term is a vector of B times ROWS single elements of A, added to ROWS vectors in registers. Written in LLVM's
    terms, because the same loops in Python's go through memory at every term, which costs half of the speed.
    """

    def generate(context, builder, signature, arguments):
        matrix = signature.args[0]
        c, a, b = (context.make_array(matrix)(context, builder, x) for x in arguments[:3])
        i, j, depth, add = arguments[3:]
        element = context.get_data_type(matrix.dtype)
        size = context.get_abi_sizeof(element)
        lanes = VECTOR_BYTES // size
        vector, index = ir.VectorType(element, lanes), ir.IntType(32)
        fused = ("contract",)  # multiply and add with one rounding, where the machine can

        def pointer(array, row, column):
            return cgutils.get_item_pointer(context, builder, matrix, array, [row, column])

        def vectors(array, row):
            return builder.bitcast(pointer(array, row, j), vector.as_pointer())

        def spread(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, index(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(index, lanes), [0] * lanes))

        rows = [builder.add(i, ir.Constant(i.type, row)) for row in range(ROWS)]
        sums = []
        for row in rows:
            start = builder.select(add, builder.load(vectors(c, row), align=size), ir.Constant(vector, None))
            sums.append(cgutils.alloca_once_value(builder, start))
        with cgutils.for_range(builder, depth) as loop:
            right = builder.load(vectors(b, loop.index), align=size)
            for row, total in zip(rows, sums, strict=True):
                left = spread(builder.load(pointer(a, row, loop.index)))
                term = builder.fmul(left, right, flags=fused)
                builder.store(builder.fadd(builder.load(total), term, flags=fused), total)
        for row, total in zip(rows, sums, strict=True):
            builder.store(builder.load(total), vectors(c, row), align=size)
        return context.get_dummy_value()

    return types.void(c, a, b, types.intp, types.intp, types.intp, types.boolean), generate
