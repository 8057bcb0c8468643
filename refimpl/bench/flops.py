"""Operations of the forms that are useful, whatever a form computes besides."""


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
