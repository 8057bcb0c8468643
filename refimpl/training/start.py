"""What a run starts from when it goes on from trained weights: fine-tuning."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import RetNetConfig
from ..interop import load_folder
from ..tree import map_tree
from .bpe import Tokenizer

BEST = "best.safetensors"  # in a run's folder


class Start(NamedTuple):
    """Trained weights: their path, parameters as float32 NumPy arrays, the `RetNetConfig` and the tokeniser."""

    path: Path
    params: dict
    config: RetNetConfig
    tokenizer: Tokenizer

    @property
    def settings(self):
        """The settings of a run that has this model."""
        values = dataclasses.asdict(self.config)
        if values.pop("score_norm") is not None:
            raise ValueError(
                f"from_weights must be of a model without a score_norm, {str(self.path)!r} has {self.config.score_norm!r}: "
                "it has no recurrent form to sample in"
            )
        return {name: "none" if value is None else value for name, value in values.items()}

    def check(self, config):
        """Require of the settings of a run that they have this model; a ValueError names the first that has not."""
        ours, theirs = (dataclasses.asdict(each) for each in (config.retnet, self.config))
        for name, value in theirs.items():
            if ours[name] != value:
                raise ValueError(
                    f"{name} must be {value!r} as in the weights {str(self.path)!r}, or left out, got {ours[name]!r}"
                )


def load_start(path):
    """The `Start` in a run's folder, of which the best weights are taken, or in what `refimpl.interop.load_folder` reads.

    Raises:
        FileNotFoundError: there is no such file or folder.
        TypeError, ValueError: as `load_folder`; or there is no tokeniser of ours of as many tokens beside the weights.
    """
    if not f"{path}":
        raise ValueError("from_weights must be the path of a file or folder, got ''")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"from_weights: there is no file or folder {str(path)!r}")
    if (path / BEST).exists():
        path /= BEST
    beside = path / "any file" if path.is_dir() else path
    try:
        params, config = load_folder(path)
        tokenizer = Tokenizer.beside(beside, config.vocab_size)
    except (TypeError, ValueError) as error:
        message = f"{error}".removeprefix("path ")  # its name for what the setting names
        message = f"from_weights {message}" if message.startswith("must") else f"from_weights: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from None
    return Start(path, map_tree(lambda _, x: x.astype(np.float32), params), config, tokenizer)
