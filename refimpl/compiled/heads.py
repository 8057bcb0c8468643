"""The loops that Numba compiles: Eq. 6 and Eq. 7 of one head, on matrices padded to whole tiles.

Each `..._heads` function computes heads start, ..., stop - 1 of all B H heads; `refimpl.compiled.threads` shares them out.
A decay is in two parts, high and low, as `refimpl.decay.in_two_parts` gives it. Equations: arXiv:2307.08621v4.
"""

import itertools
import warnings

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# A tile of a product is ROWS times ACROSS vectors, which stay in registers while it is summed: 16 registers of 32 bytes with
# AVX2, 32 of 64 with AVX-512. 8 sums hide the latency of a multiply-add. Vectors side by side share the elements of A, or
# loads would take longer than products.
VECTOR_BYTES, ROWS, ACROSS = (64, 8, 2) if binding.get_host_cpu_features().get("avx512f") else (32, 4, 2)


def _can_cache():
    """True if Numba finds a folder for its machine code: __pycache__ here, the user's own or NUMBA_CACHE_DIR."""
    try:
        njit(cache=True)(_can_cache)
    except RuntimeError:
        warnings.warn(
            "Numba compiles the kernels anew in each process, for it can write its cache nowhere; NUMBA_CACHE_DIR may name "
            "a folder that it can write to",
            stacklevel=2,
        )
        return False
    return True


_OPTIONS = {"cache": _can_cache(), "nogil": True, "error_model": "numpy"}
_over_heads = njit(**_OPTIONS)
# For functions that only compiled code calls: no entry from Python is compiled. Of fastmath only "contract" is used, which
# fuses a multiplication and an addition: NaN and infinity must stay what they are.
_compiled = njit(**_OPTIONS, fastmath={"contract"}, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_over_heads
def recurrent_heads(start, stop, q, k, v, state, end, out, high_0, low_0, high, low, backwards):
    """Eq. 6 for heads start, ..., stop - 1: fills out (B, H, T, V) and end (B, H, K, V), the state after."""
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
def chunkwise_heads(start, stop, q, k, v, state, out, xi, zeta, high, low, first, count):
    """Eq. 7 for `count` chunks from token `first` on: fills their part of out and updates state in place."""
    for n in range(start, stop):
        b, h = divmod(n, q.shape[1])
        _chunkwise_head(
            q[b, h], k[b, h], v[b, h], state[b, h], out[b, h], xi[h], zeta[h], high[h], low[h], first, count
        )


@_over_heads
def chunkwise_backward_heads(start, stop, q, k, v, grad, dk, dv, dstate, xi, zeta, high, low, first, count):
    """The gradients of Eq. 7 for the same chunks: fills their part of dk and dv and updates dstate in place."""
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
    """Eq. 6; high_0 and low_0 are the decay before the first token."""
    time, key_dim, value_dim = q.shape[0], q.shape[1], v.shape[1]
    if time == 0:
        _copy(end, 0, 1, state, 0, 1, key_dim, value_dim)
    for n in range(time):
        token = time - 1 - n if backwards else n
        for j in range(value_dim):
            out[token, j] = 0
        if n == 0:  # from one array to the other, which spares a copy
            for i in range(key_dim):
                for j in range(value_dim):
                    end[i, j] = high_0 * state[i, j] + (low_0 * state[i, j] + k[token, i] * v[token, j])
                    out[token, j] += q[token, i] * end[i, j]
        else:  # in its place, and not by the same lines: these are vectorised for arrays that are apart
            for i in range(key_dim):
                for j in range(value_dim):
                    end[i, j] = high * end[i, j] + (low * end[i, j] + k[token, i] * v[token, j])
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
    values, grads = _matrix(length, value_dim, xi), _matrix(length, value_dim, xi)
    wide = _matrix(length, max(key_dim, value_dim), xi)  # for dK, and then for dV
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

    Forwards, read is xi and write is zeta. Q and K^T are overwritten: afterwards they are multiplied by read and write.
    """
    length, width = zeta.size, ACROSS * VECTOR_BYTES // out.itemsize
    for i in range(0, length, ROWS):
        for j in range(0, min(i + ROWS, length), width):  # skips the tiles above the diagonal
            _tile(scores, q, keys, i, j, key_dim, False)
    for n in range(length):
        for m in range(n + 1):
            scores[n, m] *= zeta[length - 1 - n + m]  # D_nm, because zeta is gamma^(c-1), ..., gamma, 1
        for m in range(n + 1, scores.shape[1]):
            scores[n, m] = 0
    for n in range(length):
        for i in range(key_dim):
            q[n, i] *= read[n]
    for i in range(key_dim):
        for n in range(length):
            keys[i, n] *= write[n]
    for i in range(0, length, ROWS):
        for j in range(0, value_dim, width):
            _tile(out, q, state, i, j, key_dim, False)
            _tile(out, scores, v, i, j, min(i + ROWS, length), True)
    if carry:
        for i in range(key_dim):
            for j in range(value_dim):
                state[i, j] = high * state[i, j] + low * state[i, j]
        for i in range(0, key_dim, ROWS):
            for j in range(0, value_dim, width):
                _tile(state, keys, v, i, j, length, True)


# ---------------------------------------------------------------- matrices in whole tiles


@_compiled
def _matrix(rows, columns, like):
    """Zeros (rows, columns), padded to whole tiles: tiles may write into the padding, which is never read.

    A row is one vector longer still, so that rows of a power of two do not share the same few cache sets.
    """
    lanes = VECTOR_BYTES // like.itemsize
    width = ACROSS * lanes
    return np.zeros((-(-rows // ROWS) * ROWS, -(-columns // width) * width + lanes), like.dtype)


@_compiled
def _copy(to, to_row, to_step, x, row, step, rows, columns):
    """Rows row, row + step, ... of x become rows to_row, to_row + to_step, ..."""
    for n in range(rows):
        for i in range(columns):
            to[to_row + to_step * n, i] = x[row + step * n, i]


@_compiled
def _transpose(to, x, row, step, rows, columns):
    """Rows row, row + step, ... of x become columns: whole squares in registers, the edges element by element."""
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

    The square has as many rows as a vector has elements. Zipping row r with row r + lanes / 2 rotates the index bits by
    one place, so after log2(lanes) rounds the bits of row and column have changed places.
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
    """C = A B, or C += A B, for ROWS rows from i on and ACROSS vectors of columns from j on, summed over `depth`.

    Each term is ACROSS vectors of B times ROWS single elements of A, added to vectors in registers. It is written in
    LLVM's terms because the same loops in Python go through memory at every term, at half the speed.
    """

    def generate(context, builder, signature, arguments):
        matrix = signature.args[0]
        c, a, b = (context.make_array(matrix)(context, builder, x) for x in arguments[:3])
        i, j, depth, add = arguments[3:]
        element = context.get_data_type(matrix.dtype)
        size = context.get_abi_sizeof(element)
        lanes = VECTOR_BYTES // size
        vector, index = ir.VectorType(element, lanes), ir.IntType(32)
        fused = ("contract",)  # multiply and add with one rounding where the processor can

        def pointer(array, row, column):
            return cgutils.get_item_pointer(context, builder, matrix, array, [row, column])

        def vectors(array, row, column):
            return builder.bitcast(pointer(array, row, column), vector.as_pointer())

        def spread(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, index(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(index, lanes), [0] * lanes))

        rows = [builder.add(i, ir.Constant(i.type, row)) for row in range(ROWS)]
        columns = [builder.add(j, ir.Constant(j.type, lanes * each)) for each in range(ACROSS)]
        sums = {}
        for row, column in itertools.product(range(ROWS), range(ACROSS)):
            stored = builder.load(vectors(c, rows[row], columns[column]), align=size)
            sums[row, column] = cgutils.alloca_once_value(
                builder, builder.select(add, stored, ir.Constant(vector, None))
            )
        with cgutils.for_range(builder, depth) as loop:
            right = [builder.load(vectors(b, loop.index, column), align=size) for column in columns]
            left = [spread(builder.load(pointer(a, row, loop.index))) for row in rows]
            for (row, column), total in sums.items():
                term = builder.fmul(left[row], right[column], flags=fused)
                builder.store(builder.fadd(builder.load(total), term, flags=fused), total)
        for (row, column), total in sums.items():
            builder.store(builder.load(total), vectors(c, rows[row], columns[column]), align=size)
        return context.get_dummy_value()

    return types.void(c, a, b, types.intp, types.intp, types.intp, types.boolean), generate
