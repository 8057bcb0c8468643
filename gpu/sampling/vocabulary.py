"""Text to tokens and back for `python -m gpu generate`: bytes and our byte pairs, a hub's tokenizer.json, or bare ids of tokens.

A vocabulary has `encode(text)` -> (N,) int64, and `stream(model, past, new_tokens, prompts, **sampling)`, which
yields for each new token a string for each of the prompts (T_i,), as `stream_text` does.
"""

import os
from importlib.util import find_spec

import numpy as np

from refimpl.interop.files import read_json
from refimpl.training.bpe import Tokenizer, refuse_other_tokenizers

from .generate import draw_tokens, stream_text


class Pieces:
    """Tokens that are bytes or pieces of bytes: a `refimpl.training.bpe.Tokenizer`."""

    def __init__(self, tokenizer):
        self.size, self.tokenizer = tokenizer.vocab_size, tokenizer

    def encode(self, text):
        """The tokens of a text."""
        return self.tokenizer.encode(text).astype(np.int64)

    def stream(self, model, past, new_tokens, prompts, **sampling):
        """Text as it comes."""
        return stream_text(model, past, new_tokens, pieces=self.tokenizer.pieces, **sampling)


class Hub:
    """The tokenizer.json of a model from a hub, by the library tokenizers."""

    def __init__(self, path):
        from tokenizers import Tokenizer as HubTokenizer

        try:
            self.tokenizer = HubTokenizer.from_file(str(path))
        except Exception as error:  # of the library's own kind, Exception itself
            raise ValueError(
                f"tokenizer.json must be of the package tokenizers; {str(path)!r} is not: {error}"
            ) from None
        self.tokenizer.no_truncation()  # both may be saved from training, and a prompt is whole and alone
        self.tokenizer.no_padding()
        self.size = self.tokenizer.get_vocab_size()

    def encode(self, text):
        """The tokens of a text."""
        return np.array(self.tokenizer.encode(text).ids, dtype=np.int64)

    def stream(self, model, past, new_tokens, prompts, **sampling):
        """What each token adds to the text of all before it; nothing while a character is incomplete."""
        rows = [prompt.tolist() for prompt in prompts]
        texts = written = [self.tokenizer.decode(row) for row in rows]
        for tokens, _ in draw_tokens(model, past, new_tokens, **sampling):
            rows = [[*row, token] for row, token in zip(rows, tokens.tolist(), strict=True)]
            texts = [self.tokenizer.decode(row) for row in rows]
            whole = [old if new.endswith("\ufffd") else new for old, new in zip(written, texts, strict=True)]
            yield _added(written, whole)
            written = whole
        yield _added(written, texts)


class Ids:
    """Ids of tokens as text, for a model without a tokenizer here: "17 4 9" is three tokens."""

    def encode(self, text):
        """The ids in a text; ValueError for anything else."""
        try:
            return np.array([int(word) for word in text.split()], dtype=np.int64)
        except (ValueError, OverflowError):
            raise ValueError(f"prompt must be ids of tokens with spaces between them, got {text!r}") from None

    def stream(self, model, past, new_tokens, prompts, **sampling):
        """The ids of the new tokens."""
        for tokens, _ in draw_tokens(model, past, new_tokens, **sampling):
            yield tuple(f" {token}" for token in tokens.tolist())


def vocabulary_of(weights, size):
    """The vocabulary of a model over `size` tokens by the tokenizer.json beside its weights, a file or a folder; else bytes.

    ValueError if it does not fit, or needs a library that is not installed; it says what is wanted.
    """
    path = (weights if weights.is_dir() else weights.parent) / "tokenizer.json"
    here = os.path.lexists(path)  # also as a link to nothing, which is refused
    if not here:
        refuse_other_tokenizers(path.parent)
    if not here or "merges" in read_json(path):
        vocabulary = Pieces(Tokenizer.load(path) if here else Tokenizer())
        fits = vocabulary.size == size
    elif find_spec("tokenizers"):
        vocabulary = Hub(path)
        fits = vocabulary.size <= size  # embeddings are often padded to a round number
    else:
        raise ValueError(
            f"weights come with a hub's tokenizer, {str(path)!r}, which the package tokenizers reads: install it; or, with "
            f"--ids, give ids of tokens and get them"
        )
    if not fits:
        why = f"{str(path)!r} says" if here else f"bytes are, for there is no {str(path)!r}"
        raise ValueError(
            f"weights must be of a model over {vocabulary.size} tokens, as {why}, got {size}; "
            f"with --ids, ids of tokens are given and written"
        )
    return vocabulary


def _added(before, after):
    return tuple(text.removeprefix(old) for old, text in zip(before, after, strict=True))
