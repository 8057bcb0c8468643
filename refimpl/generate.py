"""The command `python -m refimpl generate`: text from a model, by NumPy alone."""

import codecs
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .interop import load_folder
from .sampling import sample
from .training.bpe import Tokenizer
from .tree import map_tree
from .weights import PRETRAINED


def generate(
    prompt: Annotated[str, typer.Argument(help="text to continue")] = "In the beginning",
    weights: Annotated[
        Path | None,
        typer.Option(help="file or folder of a RetNet over bytes or our byte pairs; by default the model that ships"),
    ] = None,
    tokens: Annotated[int, typer.Option(min=0, help="number of tokens to write")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="what logits are divided by; 0 takes the likeliest token")
    ] = 0.7,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="draw from the k likeliest tokens; by default from all")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="draw from the likeliest tokens that reach this probability; by default from all"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the draws; the same one writes the same text")] = 0,
):
    """Continue a text in the recurrent form, token by token as it comes."""
    if not prompt:
        raise ValueError("prompt must hold at least one character, got ''")
    path = PRETRAINED if weights is None else weights
    params, config = load_folder(path)
    params = map_tree(lambda _, x: x.astype(np.float32), params)  # halves are for storing
    beside = (path if path.is_dir() else path.parent) / "tokenizer.json"
    tokenizer = Tokenizer.load(beside) if beside.exists() else Tokenizer(())
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"weights must be of a model over {tokenizer.vocab_size} tokens, as "
            f"{f'{beside} has' if beside.exists() else 'bytes are'}, got {config.vocab_size}"
        )
    drawn = sample(
        params, tokenizer.encode(prompt)[None].astype(np.int64), config, tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
    )  # fmt: skip
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    print(prompt, end="", flush=True)
    for (token,), _ in drawn:
        print(decoder.decode(tokenizer.pieces[token]), end="", flush=True)
    print(decoder.decode(b"", final=True))
