"""The checkpoint of a run: tensors by name, the settings and the progression, in one file.

It is written atomically, so whenever a run is killed the file is that of one step.
"""

import dataclasses
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.numpy

from ..files import write_atomically
from .loop import Progression

NAME = "checkpoint.safetensors"


class Checkpoint(NamedTuple):
    """The settings of a run, its progression, the fingerprint of its text, and its tensors, NumPy arrays by name."""

    config: Any
    progression: Progression
    text: str
    tensors: dict


def save_checkpoint(out, config, progression, text, tensors):
    """Write `out`/checkpoint.safetensors, whole or not at all; text: a fingerprint of what the run learns from."""
    settings, kind = json.dumps(dataclasses.asdict(config)), type(config).__name__
    metadata = {"config": settings, "kind": kind, "progression": progression.to_json(), "text": text}
    write_atomically(Path(out) / NAME, safetensors.numpy.save(tensors, metadata))


def load_checkpoint(out, kind):
    """The `Checkpoint` in a folder, None if there is none; ValueError for a file that is not a checkpoint.

    kind: the class of its settings.
    """
    path = Path(out) / NAME
    if not path.exists():
        return None
    with _reading(path), safetensors.safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("kind", kind.__name__) != kind.__name__:
        raise ValueError(
            f"resume: {str(path)!r} must be of a {kind.__name__}, got that of a {metadata['kind']}: NumPy and torch do not "
            "go on with each other's runs; --from (from_weights) starts from their weights, --fresh (fresh=True) replaces one"
        )
    with _reading(path):
        config = kind(**json.loads(metadata["config"]))
        return Checkpoint(config, Progression.from_json(metadata["progression"]), metadata["text"], tensors)


def load_tensors(out, kind, wanted):
    """The tensors of the checkpoint in a folder, whose names, shapes and dtypes must be those of a run.

    kind: as for `load_checkpoint`. wanted: {name: (shape, dtype)}, the dtype as NumPy writes it. A ValueError names the
    first tensor that is missing, of another shape or dtype, or one too many.
    """
    path, found = Path(out) / NAME, load_checkpoint(out, kind).tensors
    with _reading(path):
        for name, (shape, dtype) in wanted.items():
            if name not in found:
                raise ValueError(f"{name} is missing")
            if found[name].shape != tuple(shape):
                raise ValueError(f"{name} must have shape {tuple(shape)}, got {found[name].shape}")
            if found[name].dtype != dtype:
                raise ValueError(f"{name} must have dtype {dtype}, got {found[name].dtype}")
        for name in found.keys() - wanted.keys():
            raise ValueError(f"{name} is none of its tensors")
    return found


@contextmanager
def _reading(path):
    """Within, whatever is wrong with the contents of a checkpoint becomes a ValueError that names the file."""
    try:
        yield
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{error}" if isinstance(error, ValueError | OSError) else repr(error)
        raise ValueError(f"resume: {str(path)!r} is no checkpoint of such a run: {reason}") from None
