"""Near duplicates: texts that share most of their runs of five words, found by MinHash without comparing all pairs.

The signatures and the index are those of rensa, which is written in Rust: hashing is most of the work, and on a million and a
half characters it took a fiftieth of the time of datasketch, which is written in Python.
"""

WORDS = 5  # of a run
PERMUTATIONS = 128
BANDS = 16  # of 8 rows: a pair of similarity 0.8 shares one with probability 0.95
SEED = 42


def signature(text):
    """The MinHash of the set of a text's runs of five words."""
    words = text.split()
    found = _rensa().RMinHash(PERMUTATIONS, SEED)
    found.update([" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))])
    return found


def near_duplicates(signatures, similarity):
    """Yield (i, j) for each signature i that is nearly that of an earlier one j, which is kept.

    similarity: the least share of common runs, estimated from the signatures, in (0, 1].
    """
    index = _rensa().RMinHashDeduplicator(similarity, PERMUTATIONS, True, BANDS)
    for i, each in enumerate(signatures):
        if not index.add(f"{i}", each):
            yield i, min(map(int, index.get_duplicates(each)))


def _rensa():
    try:
        import rensa
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "near duplicates are found by the package rensa; install it with pip install rensa, or the extra corpus"
        ) from None
    return rensa
