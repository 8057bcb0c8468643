"""The command `python -m refimpl generate`: text from a model, by NumPy alone."""

import codecs
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .cli import path
from .interop import load_folder
from .sampling import sample
from .training.bpe import Tokenizer
from .training.unicode import decode_text
from .tree import map_tree
from .weights import PRETRAINED

BEGINNING = "In the beginning"
PROMPT_FILE = "file of a prompt, of any number of lines, taken without its last line break; - is standard input"


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help=f"text to continue; by default {BEGINNING!r}", show_default=False)
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(help=f"{PROMPT_FILE}; by default none", show_default=False, parser=path),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="file or folder of a RetNet over bytes or our byte pairs; by default the model that ships", parser=path
        ),
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
    if prompt is not None and prompt_file is not None:
        raise ValueError(f"prompt must be left out with --prompt-file, got {prompt!r}")
    prompt = read_prompt(prompt_file) if prompt_file else BEGINNING if prompt is None else prompt
    if not prompt:
        raise ValueError("prompt must hold at least one character, got ''; give one, or --prompt-file")
    source = PRETRAINED if weights is None else weights
    params, config = load_folder(source)
    params = map_tree(lambda _, x: x.astype(np.float32), params)  # halves are for storing
    beside = (source if source.is_dir() else source.parent) / "tokenizer.json"
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


def read_prompt(file):
    """The text of a file, or of standard input for -, without the line break at its end; a ValueError says what is wrong."""
    standard = f"{file}" == "-"
    what = "prompt-file: standard input" if standard else f"prompt-file: the file {str(file)!r}"
    if standard and sys.stdin is None:
        raise ValueError(f"{what} is closed")
    if not standard and not file.exists():
        raise FileNotFoundError(f"prompt-file: there is no file {str(file)!r}")
    if not standard and file.is_dir():
        raise IsADirectoryError(f"prompt-file must be a file, {str(file)!r} is a folder")
    try:
        data = sys.stdin.buffer.read() if standard else file.read_bytes()
    except OSError as error:
        raise OSError(f"{what} cannot be read ({error.strerror})") from None
    return decode_text(data, what).removesuffix("\n").removesuffix("\r")
