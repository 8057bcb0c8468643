"""Operations of the forms that are useful, whatever a form computes besides, and the bytes that they move."""


def useful_flops(form, heads, time, key_dim, value_dim, chunk_size=None):
    """Floating-point operations of a forward pass of one sequence, a multiply-add counted as two.

    "parallel": H T (T + 1) (K + V), each score on or below the diagonal written and used once. "recurrent": 5 H T K V:
    decay, write, read. "chunkwise": H T ((C + 1) (K + V) + 4 K V). "backward": 2.5 chunkwise, which has three products
    with scores where the forward pass has two, and two recurrences where that has one.

    >>> useful_flops("recurrent", 8, 1000, 64, 128)
    327680000
    """
    cells, widths = key_dim * value_dim, key_dim + value_dim
    if form == "parallel":
        return heads * time * (time + 1) * widths
    if form == "recurrent":
        return 5 * heads * time * cells
    flops = heads * time * ((chunk_size + 1) * widths + 4 * cells)
    return flops if form == "chunkwise" else 5 * flops // 2


def bytes_moved(form, heads, time, key_dim, value_dim, chunk_size=None):
    """(tokens, inner): bytes of a forward pass of one sequence in float32, each number read and written once where it is used.

    tokens: q, k, v and out. inner: what a form puts down and takes up again: the state at each token ("recurrent") or chunk
    ("chunkwise"), and the scores on and below the diagonal ("chunkwise", "parallel"). The caller decides which memory has it.

    >>> bytes_moved("recurrent", 1, 2, 3, 4)
    (112, 192)
    """
    chunk = {"parallel": time, "recurrent": 1, "chunkwise": chunk_size}[form]
    whole, ragged = divmod(time, chunk) if time else (0, 0)
    scores = 0 if form == "recurrent" else (whole * chunk * (chunk + 1) + ragged * (ragged + 1)) // 2
    states = 0 if form == "parallel" else (whole + (ragged > 0)) * key_dim * value_dim
    return 8 * heads * time * (key_dim + value_dim), 8 * heads * (scores + states)
