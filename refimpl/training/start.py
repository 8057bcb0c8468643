"""What a run starts from when it goes on from trained weights: fine-tuning."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import RetNetConfig
from ..tree import map_tree
from ..weights import load_params
from .bpe import Tokenizer

FILES = ("best.safetensors", "weights.safetensors")  # of a run's folder, the first that is there


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
    """The `Start` in a run's folder, of which the best weights are taken, or in a file of weights.

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.
        ValueError: as `refimpl.weights.load_params`; or there is no tokeniser of as many tokens beside the weights.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).exists()]
        if not found:
            raise FileNotFoundError(f"from_weights: there is no {' or '.join(FILES)} in the folder {str(path)!r}")
        path = found[0]
    if not path.exists():
        raise FileNotFoundError(f"from_weights: there is no file or folder {str(path)!r}")
    params, config = load_params(path)
    return Start(
        path, map_tree(lambda _, x: x.astype(np.float32), params), config, Tokenizer.beside(path, config.vocab_size)
    )
