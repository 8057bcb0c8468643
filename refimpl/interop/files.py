"""Files of weights as they lie on a hub or on a disk: which ones a folder holds, their formats, and the settings beside them.

safetensors is read here. What torch.save wrote is read by a function that another package hands in or announces as an entry
point of the group "retnet.unpicklers", as pyproject.toml does for `gpu`: path -> object, whose tensors are on the CPU.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from array_api_compat import is_array_api_obj

from .settings import CONFIG

UNPICKLERS = "retnet.unpicklers"
# What transformers looks for, in its order, so that a folder with both formats gives what it gives there. Then our own runs.
NAMES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "weights.safetensors",
)  # fmt: skip
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
OWN = ("embedding", "weight.embedding", "embedding.weight")  # of a model of ours, of a run's checkpoint, of a baseline
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
WRAPPED = ("model", "config")  # where a checkpoint's settings hold those of the model
Unpickle = Callable[[Path], Any]


class Checkpoint(NamedTuple):
    """Weights by name, as arrays of any library, and the places beside them that may hold settings, for `settings.merge`.

    name: how messages call the file. own: whether the only place holds the fields of a `RetNetConfig`.
    """

    weights: dict[str, Any]
    places: list[tuple[str, dict[str, Any]]]
    name: str
    own: bool = False


def read_checkpoint(path: Path, unpickle: Unpickle | None) -> Checkpoint:
    """The weights in a file or folder, and the settings in them or in config.json beside them.

    Raises:
        FileNotFoundError: there is no such file or folder, or a file that an index names is missing.
        ValueError: it holds no weights, several, or broken ones.
        ModuleNotFoundError: torch.save wrote it, and nobody here can read that.
    """
    file = find(path)
    read = _read_shards if file.name.endswith(".index.json") else _read_file
    checkpoint = read(file, unpickle)
    if checkpoint.own:
        return checkpoint
    return checkpoint._replace(places=checkpoint.places + _beside(file, CONFIG))


def find(path: Path) -> Path:
    """The file of weights, or their index, that a path means: itself, or what its folder holds."""
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file or folder {str(path)!r}")
    if not path.is_dir():
        return path
    for name in NAMES:
        if os.path.lexists(path / name):  # a link to nothing is refused later, rather than passed over
            return path / name
    names = sorted(each.name for each in path.iterdir())
    found = [name for name in names if name.endswith(SUFFIXES)]
    if found == ["checkpoint.safetensors"] and _is_own(path / found[0]):
        raise ValueError(
            f"path must be a finished run; {str(path)!r} holds a checkpoint alone: "
            f"python -m gpu train --out {path} --resume finishes it"
        )
    if len(found) != 1:
        raise ValueError(
            f"path must be a file of weights or a folder with one of {', '.join(NAMES)} or one other file of weights "
            f"({', '.join(SUFFIXES)}); {str(path)!r} holds {_some(found or names)}"
        )
    return path / found[0]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError if it is none."""
    _refuse_others(path)
    try:
        settings = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # also of UTF-8, and of brackets without end
        raise ValueError(f"{path.name} must hold JSON; {str(path)!r} does not: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(settings).__name__} in {str(path)!r}")
    return settings


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if it names something twice, where Python would take the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"it says {name} twice, {found[name]!r} and {value!r}")
        found[name] = value
    return found


def places_of(source: Any) -> list[tuple[str, dict[str, Any]]]:
    """Where the path of a .safetensors file comes with settings: its metadata, config.json beside it; [] for no path."""
    if not isinstance(source, str | os.PathLike):
        return []
    return _places(_metadata(Path(source)), "state_dict") + _beside(Path(source), f"{CONFIG} beside state_dict")


def read_safetensors(path: Path, argument: str = "state_dict") -> dict[str, np.ndarray]:
    """{name: array} of a .safetensors file; bfloat16 becomes float32, which holds it exactly."""
    _refuse_others(path)
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
    _refuse_others(path)
    with open(path, "rb") as file:
        start = file.read(9)
    json_follows = start[8:] == b"{"  # the length of safetensors' header, before it, may begin with any byte
    zipped, pickled = start.startswith(b"PK\x03\x04"), start.startswith(b"\x80") and not json_follows
    if zipped or pickled:  # as torch.save writes now, and wrote before
        return _inside((unpickle or _announced(path))(path), path)
    if path.suffix != ".safetensors" and not json_follows:
        raise ValueError(f"path must be a file of safetensors or of torch.save; {str(path)!r} begins with {start!r}")
    weights, metadata = read_safetensors(path, "path"), _metadata(path)
    if "config" not in metadata or weights.keys().isdisjoint(OWN):
        return Checkpoint(weights, _places(metadata, path.name), path.name)
    if not isinstance(metadata["config"], dict):
        raise ValueError(f"{path.name} must hold a JSON object as its config, got {metadata['config']!r}")
    return Checkpoint(weights, [(path.name, metadata["config"])], path.name, own=True)


def _read_shards(index: Path, unpickle: Unpickle | None) -> Checkpoint:
    """The weights that an index shares out over files, each from the file that it names."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{index.name} must hold weight_map, a file for each weight, got {shards!r}")
    for name in shards.values():
        if not isinstance(name, str) or not name or name != Path(name).name or not index.with_name(name).is_file():
            raise FileNotFoundError(f"{index.name}: it names {name!r}, which is missing in {str(index.parent)!r}")
    files = {name: _read_file(index.with_name(name), unpickle) for name in sorted(set(shards.values()))}
    for key, name in shards.items():
        if key not in files[name].weights:
            raise ValueError(f"{name} must hold {key}, as {index.name} says; it is missing")
    for name, file in files.items():
        if unnamed := file.weights.keys() - shards.keys():
            raise ValueError(f"{index.name} must name every weight of {name}, {min(unnamed)} is missing")
    places = [(index.name if place == name else place, said) for name in files for place, said in files[name].places]
    return Checkpoint({key: files[name].weights[key] for key, name in shards.items()}, places, index.name)


def _inside(content: Any, path: Path) -> Checkpoint:
    """The weights and settings in an object that torch.save wrote: a state dict, or one beside other things."""
    if not isinstance(content, Mapping):
        raise ValueError(f"path must hold a state dict; {str(path)!r} holds {type(content).__name__}")
    found = {str(key): value for key, value in content.items() if _is_state_dict(value)}
    if _is_state_dict(content) or (not found and any(map(_is_array, content.values()))):
        found[f"{path.name} itself"] = content
    if len(found) != 1:
        what = (
            f"several: {_some(found)}" if found else f"none, but {_some(map(str, content))}" if content else "nothing"
        )
        raise ValueError(f"path must hold one state dict; {str(path)!r} holds {what}")
    (state_dict,) = found.values()
    weights = {key: value for key, value in state_dict.items() if _is_array(value)}
    places = []
    for mapping in [content] if state_dict is content else [content, state_dict]:
        others = {key: value for key, value in mapping.items() if value is not state_dict and not _is_array(value)}
        places += _places(others, path.name)
    return Checkpoint(weights, places, path.name)


def _places(value: Any, where: str, depth: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """The settings in a mapping or a namespace, as argparse makes it, and in those within it; how messages call each."""
    value = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    settings = {str(name): each for name, each in value.items()}
    nested = {name: _places(each, where if depth else name, depth + 1) for name, each in settings.items() if depth < 4}
    own = {name: each for name, each in settings.items() if not (name in WRAPPED and nested.get(name))}
    return [(where, own), *(place for places in nested.values() for place in places)] if settings else []


def _beside(file: Path, where: str) -> list[tuple[str, dict[str, Any]]]:
    """The settings in config.json in the folder of a file, if there is one; a link to nothing is one, and is refused."""
    beside = file.with_name(CONFIG)
    return [(where, read_json(beside))] if os.path.lexists(beside) else []


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of a .safetensors file: texts, or the JSON in them."""
    with safetensors.safe_open(path, framework="numpy") as opened:
        return {name: _parsed(text) for name, text in (opened.metadata() or {}).items()}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return text


def _is_array(value: Any) -> bool:
    return is_array_api_obj(value) and not isinstance(value, np.generic)


def _is_state_dict(value: Any) -> bool:
    """Whether it names a matrix by a text: what else a trainer saves are numbers and states of generators."""
    named = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return named and any(_is_array(each) and each.ndim > 1 and "float" in f"{each.dtype}" for each in value.values())


def _some(names: Iterable[str]) -> str:
    """The first three names, and how many there are more."""
    names = [*names]
    return (", ".join(names[:3]) or "nothing") + (f" and {len(names) - 3} more" if names[3:] else "")


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


def _is_own(path: Path) -> bool:
    """Whether a .safetensors file holds a model of this package, or a baseline, and its config."""
    with suppress(safetensors.SafetensorError, OSError), safetensors.safe_open(path, framework="numpy") as opened:
        return "config" in (opened.metadata() or {}) and not set(opened.keys()).isdisjoint(OWN)
    return False


def _refuse_others(path: Path) -> None:
    """Refuse a folder, a pipe, which would be waited for, a link to nothing, and a pointer of Git LFS."""
    if os.path.lexists(path) and not path.is_file():
        raise ValueError(f"{path.name} must be a file; {str(path)!r} is a folder, a pipe or a link to nothing")
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs.github.com"):
            raise ValueError(
                f"path must hold the file itself; {str(path)!r} is a pointer of Git LFS: git lfs pull fetches it"
            )
