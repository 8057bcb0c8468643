"""Byte-pair encoding: tokens are bytes, and pairs of tokens that are often neighbours, learnt from a text.

A tokeniser is a list of merges. Without merges it is the byte tokeniser of `refimpl.training.text`. Merges do not cross
the borders of words, so the tokens of a word are the same wherever it occurs.
"""

import heapq
import json
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..checks import check_integer
from ..files import write_atomically
from .text import VOCAB_SIZE, decode, encode

# A word with the space before it, punctuation, white space but for the last before a word, or that last one.
WORDS = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")
# What tokenisers of other forms are saved as.
OTHERS = (
    "vocab.*", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "dict.txt", "*.model",
    "*.tiktoken",
)  # fmt: skip


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens and back; merge i makes token 256 + i of a pair of earlier tokens.

    >>> tokenizer = Tokenizer(((104, 101), (116, 256)))
    >>> tokenizer.encode("the hen")
    array([257,  32, 256, 110], dtype=uint16)
    >>> tokenizer.decode([257, 32, 256, 110]), tokenizer.lengths[256:]
    ('the hen', array([2, 3]))
    """

    merges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        for i, (left, right) in enumerate(self.merges):
            if not (0 <= left < VOCAB_SIZE + i and 0 <= right < VOCAB_SIZE + i):
                raise ValueError(f"merges: merge {i} must be of tokens below {VOCAB_SIZE + i}, got ({left}, {right})")

    @property
    def vocab_size(self):
        """The number of tokens: the bytes and one for each merge."""
        return VOCAB_SIZE + len(self.merges)

    @cached_property
    def ranks(self):
        """The token that each pair is merged into."""
        return {pair: VOCAB_SIZE + i for i, pair in enumerate(self.merges)}

    @cached_property
    def pieces(self):
        """The bytes of each token."""
        pieces = [bytes([byte]) for byte in range(VOCAB_SIZE)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        return pieces

    @cached_property
    def lengths(self):
        """The number of bytes of each token, (vocab_size,) int64, to convert bits a token into bits a byte."""
        return np.array([len(piece) for piece in self.pieces])

    def encode(self, text, known=None):
        """The tokens of a text, (N,) uint8 without merges, else uint16 or uint32; TypeError if text is no str.

        known: a dict of the tokens of words, which this fills; handed to the next call, it saves that call their merging.
        """
        tokens = encode(text)
        if not self.merges:
            return tokens
        known, tokens = {} if known is None else known, []
        for word in WORDS.findall(text):
            if word not in known:
                known[word] = _merged(list(word.encode("utf-8")), self.ranks)
            tokens += known[word]
        return np.array(tokens, dtype=np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def decode(self, tokens):
        """The text of tokens (N,); bytes that are not UTF-8 become U+FFFD. ValueError for an unknown token."""
        tokens = np.asarray(tokens)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(f"tokens must lie in [0, {self.vocab_size}), got {tokens.min()} to {tokens.max()}")
        return decode(np.frombuffer(b"".join(self.pieces[token] for token in tokens), np.uint8))

    def save(self, path):
        """Write the merges as JSON, atomically."""
        write_atomically(path, json.dumps({"merges": self.merges}) + "\n")

    @classmethod
    def load(cls, path):
        """Read a file that `save` wrote; ValueError for any other file."""
        try:
            merges = json.loads(Path(path).read_text(encoding="utf-8"))["merges"]
            return cls(tuple((int(left), int(right)) for left, right in merges))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"path must be a tokeniser's file; {str(path)!r} is not one: {error!r}") from None

    @classmethod
    def beside(cls, weights, vocab_size):
        """The tokeniser of a model: tokenizer.json beside its file of weights, without one that of bytes.

        ValueError if that has another number of tokens than vocab_size, or there is a tokeniser in another form.
        """
        path = Path(weights).with_name("tokenizer.json")
        here = os.path.lexists(path)  # also as a link to nothing, which is an error
        if not here:
            refuse_other_tokenizers(path.parent)
        tokenizer = cls.load(path) if here else cls()
        if tokenizer.vocab_size != vocab_size:
            raise ValueError(
                f"weights must be of a model over {tokenizer.vocab_size} tokens, as {str(path)!r} says or bytes are, "
                f"got {vocab_size}"
            )
        return tokenizer


def learn_tokenizer(text, vocab_size=VOCAB_SIZE):
    """Merge the most frequent pair of neighbours, again and again, until there are vocab_size tokens.

    Of equally frequent pairs the one with the lowest tokens is merged first, so a text always gives the same tokeniser.

    Raises:
        TypeError, ValueError: vocab_size is below 256, or the text has no pair left that occurs twice.

    >>> learn_tokenizer("a hen, the hens and then the hen", 259).pieces[256:]
    [b'he', b'hen', b' t']
    """
    check_integer("vocab_size", vocab_size, minimum=VOCAB_SIZE)
    words = Counter(WORDS.findall(text)) if vocab_size > VOCAB_SIZE else {}
    counts, words = list(words.values()), [list(word.encode("utf-8")) for word in words]
    frequency, where = Counter(), defaultdict(set)  # of each pair: how often it occurs, and in which words
    for i, word in enumerate(words):
        for pair in pairwise(word):
            frequency[pair] += counts[i]
            where[pair].add(i)
    queue = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(queue)
    merges = []
    while len(merges) < vocab_size - VOCAB_SIZE:
        count, pair = heapq.heappop(queue) if queue else (0, None)
        if count > -2:
            raise ValueError(
                f"vocab_size must be at most {VOCAB_SIZE + len(merges)} for this text, in which no pair occurs twice "
                f"then, got {vocab_size}"
            )
        if -count != frequency[pair]:
            continue  # an old count, from before a merge that removed some of the pair's places
        changed = set()
        for i in where.pop(pair):
            before, words[i] = words[i], _replaced(words[i], pair, VOCAB_SIZE + len(merges))
            for sign, word in ((-1, before), (1, words[i])):
                for neighbours in pairwise(word):
                    frequency[neighbours] += sign * counts[i]
                    changed.add(neighbours)
                    if sign == 1:
                        where[neighbours].add(i)
        merges.append(pair)
        for neighbours in changed:
            heapq.heappush(queue, (-frequency[neighbours], neighbours))
    return Tokenizer(tuple(merges))


def _merged(word, ranks):
    """The word after all merges that apply, in the order in which they were learnt."""
    while known := [ranks[pair] for pair in pairwise(word) if pair in ranks]:
        token = min(known)
        pair = next(pair for pair in pairwise(word) if ranks.get(pair) == token)
        word = _replaced(word, pair, token)
    return word


def _replaced(word, pair, token):
    """The word with `token` in place of each occurrence of the pair, from the left."""
    out, n = [], 0
    while n < len(word):
        both = tuple(word[n : n + 2]) == pair
        out.append(token if both else word[n])
        n += 2 if both else 1
    return out


def refuse_other_tokenizers(folder):
    """Raise a ValueError if the tokenizer of a hub's model lies in a folder without tokenizer.json: its tokens are no bytes."""
    if others := sorted(each.name for pattern in OTHERS for each in Path(folder).glob(pattern)):
        raise ValueError(
            f"weights must come with their tokenizer as tokenizer.json, got {', '.join(others)} in {str(folder)!r}: save it so, "
            f"as the package transformers does; python -m gpu generate --ids takes ids of tokens instead"
        )
