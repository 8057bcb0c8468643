"""Files of weights as they lie on a hub or on a disk: which ones a folder holds, their formats, and the settings beside them.

safetensors is read here. What torch.save wrote is read by a function that another package hands in or announces as an entry
point of the group "retnet.unpicklers", as pyproject.toml does for `gpu`: path -> object, whose tensors are on the CPU.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from array_api_compat import is_array_api_obj

UNPICKLERS = "retnet.unpicklers"
# What transformers looks for, in its order, so that a folder with both formats gives what it gives there. Then our own runs.
NAMES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "weights.safetensors",
)  # fmt: skip
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
OWN = ("embedding", "weight.embedding", "embedding.weight")  # of a model of ours, of a run's checkpoint, of a baseline
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
Unpickle = Callable[[Path], Any]


class Checkpoint(NamedTuple):
    """Weights by name, as arrays of any library, and their settings by name, if there are any.

    where: how messages call the place of the settings. own: whether they are the fields of a `RetNetConfig`.
    """

    weights: dict[str, Any]
    settings: dict[str, Any] | None
    where: str
    own: bool = False


def read_checkpoint(path: Path, unpickle: Unpickle | None) -> Checkpoint:
    """The weights in a file or folder, and the settings in them or in config.json beside them.

    Raises:
        FileNotFoundError: there is no such file or folder, or a file that an index names is missing.
        ValueError: it holds no weights, several, or broken ones; settings contradict each other.
        ModuleNotFoundError: torch.save wrote it, and nobody here can read that.
    """
    file = find(path)
    read = _read_shards if file.name.endswith(".index.json") else _read_file
    checkpoint = read(file, unpickle)
    beside = file.with_name("config.json")
    if checkpoint.own or not beside.exists():
        return checkpoint
    settings, inside = read_json(beside), checkpoint.settings or {}
    for name in sorted(settings.keys() & inside.keys()):
        if settings[name] != inside[name]:
            raise ValueError(
                f"{name} must be the same in {checkpoint.where} and in config.json beside it, "
                f"got {inside[name]!r} and {settings[name]!r}"
            )
    return checkpoint._replace(settings=inside | settings, where="config.json")


def find(path: Path) -> Path:
    """The file of weights, or their index, that a path means: itself, or what its folder holds."""
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file or folder {str(path)!r}")
    if not path.is_dir():
        return path
    for name in NAMES:
        if (path / name).exists():
            return path / name
    names = sorted(each.name for each in path.iterdir())
    found = [name for name in names if name.endswith(SUFFIXES)]
    if found == ["checkpoint.safetensors"]:
        raise ValueError(
            f"path must be a finished run; {str(path)!r} holds a checkpoint alone: "
            f"python -m gpu train --out {path} --resume finishes it"
        )
    if len(found) != 1:
        what = ", ".join(found or names) or "nothing"
        raise ValueError(
            f"path must be a file of weights or a folder with one of {', '.join(NAMES)} or one other file of weights "
            f"({', '.join(SUFFIXES)}); {str(path)!r} holds {what}"
        )
    return path / found[0]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError if it is none."""
    _refuse_pointer(path)
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of UTF-8
        raise ValueError(f"{path.name} must hold JSON; {str(path)!r} does not: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(settings).__name__} in {str(path)!r}")
    return settings


def settings_beside(source: Any) -> dict[str, Any]:
    """What config.json says in the folder of a path; {} if there is none, or source is no path."""
    if not isinstance(source, str | os.PathLike) or not (beside := Path(source).with_name("config.json")).exists():
        return {}
    return read_json(beside)


def read_safetensors(path: Path, argument: str = "state_dict") -> dict[str, np.ndarray]:
    """{name: array} of a .safetensors file; bfloat16 becomes float32, which holds it exactly."""
    _refuse_pointer(path)
    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{argument} must be a .safetensors file, got {str(path)!r}: {error}") from None
    weights = {}
    for key, tensor in tensors:
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            array = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
        elif tensor["dtype"] in DTYPES:
            array = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]])
        else:
            raise TypeError(f"{key} must be F64, F32, F16 or BF16, got {tensor['dtype']}")
        weights[key] = array.reshape(tensor["shape"])
    return weights


def _read_file(path: Path, unpickle: Unpickle | None) -> Checkpoint:
    with open(path, "rb") as file:
        start = file.read(9)
    json_follows = start[8:] == b"{"  # the length of safetensors' header, before it, may begin with any byte
    zipped, pickled = start.startswith(b"PK\x03\x04"), start.startswith(b"\x80") and not json_follows
    if zipped or pickled:  # as torch.save writes now, and wrote before
        return _inside((unpickle or _announced(path))(path), path)
    if path.suffix != ".safetensors" and not json_follows:
        _refuse_pointer(path)
        raise ValueError(f"path must be a file of safetensors or of torch.save; {str(path)!r} begins with {start!r}")
    weights = read_safetensors(path, "path")
    with safetensors.safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata() or {}
    if "config" not in metadata or weights.keys().isdisjoint(OWN):
        return Checkpoint(weights, None, path.name)
    return Checkpoint(weights, json.loads(metadata["config"]), path.name, own=True)


def _read_shards(index: Path, unpickle: Unpickle | None) -> Checkpoint:
    """The weights that an index shares out over files, each from the file that it names."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{index.name} must hold weight_map, a file for each weight, got {shards!r}")
    files = {}
    for name in sorted(set(shards.values())):
        file = index.with_name(name) if name == Path(name).name else None
        if file is None or not file.exists():
            raise FileNotFoundError(f"{index.name}: it names {name!r}, which is missing in {str(index.parent)!r}")
        files[name] = _read_file(file, unpickle).weights
    for key, name in shards.items():
        if key not in files[name]:
            raise ValueError(f"{name} must hold {key}, as {index.name} says; it is missing")
    return Checkpoint({key: files[name][key] for key, name in shards.items()}, None, index.name)


def _inside(content: Any, path: Path) -> Checkpoint:
    """The weights and settings in an object that torch.save wrote: a state dict, or one beside other things."""
    if not isinstance(content, Mapping):
        raise ValueError(f"path must hold a state dict; {str(path)!r} holds {type(content).__name__}")
    if _is_state_dict(content):
        return Checkpoint(dict(content), None, path.name)
    found = [key for key, value in content.items() if _is_state_dict(value)]
    if len(found) != 1:
        what = f"several: {', '.join(map(str, found))}" if found else f"none, but {', '.join(map(str, content))}"
        raise ValueError(f"path must hold one state dict; {str(path)!r} holds {what}")
    for key in ("cfg", "args", "config", "hyper_parameters"):  # of fairseq now and before; of others
        if settings := _settings(content.get(key)):
            return Checkpoint(dict(content[found[0]]), _settings(settings.get("model")) or settings, key)
    return Checkpoint(dict(content[found[0]]), None, path.name)


def _settings(value: Any) -> dict[str, Any]:
    """By name, from a mapping or from a namespace, as argparse makes it; {} if it is neither."""
    value = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return {f"{name}": each for name, each in value.items()}


def _is_state_dict(value: Any) -> bool:
    named = isinstance(value, Mapping) and bool(value) and all(isinstance(key, str) for key in value)
    return named and all(map(is_array_api_obj, value.values()))


def _announced(path: Path) -> Unpickle:
    """The function of an installed package that reads what torch.save wrote."""
    for entry in entry_points(group=UNPICKLERS):
        with suppress(ImportError):  # the package is there, and torch is not
            return entry.load()
    raise ModuleNotFoundError(
        f"{str(path)!r} is a file of torch.save: reading it needs torch, and a package that announces how, as gpu does once "
        f"this project is installed (anew, after an update); a .safetensors file needs neither",
        name="torch",
    )


def _refuse_pointer(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs.github.com"):
            raise ValueError(
                f"path must hold the file itself; {str(path)!r} is a pointer of Git LFS: git lfs pull fetches it"
            )
