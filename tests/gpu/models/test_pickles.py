"""Files of torch.save are read without running what they hold, and what else they may be is said."""

import argparse
import collections
import os
import pickle
import re
import tomllib
import zipfile
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from paths import ROOT

from gpu.models.pickles import unpickle
from refimpl.interop.files import UNPICKLERS


class Runs:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_package_announces_it():
    """Where it is installed: `refimpl.interop.load_folder` finds it so."""
    announced = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][UNPICKLERS]
    assert [EntryPoint(name, value, UNPICKLERS).load() for name, value in announced.items()] == [unpickle]


def test_weights_settings_and_namespaces(tmp_path):
    content = {"model": {"w": torch.ones(2).bfloat16()}, "args": argparse.Namespace(a=1, b=argparse.Namespace(c=None))}
    for new in (True, False):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
        read = unpickle(tmp_path / "x.pt")
        assert torch.equal(read["model"]["w"], content["model"]["w"])
        assert read["args"] == content["args"]


@pytest.mark.parametrize("new", [True, False])
def test_what_trainers_save_beside_weights(tmp_path, new):
    content = {
        "numbers": [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)], "arrays": [np.ones((2, 3)), np.arange(3)],
        "generator": np.random.PCG64(0).state, "path": tmp_path, "counts": collections.defaultdict(int, a=1),
    }  # fmt: skip
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    read = unpickle(tmp_path / "x.pt")
    assert read["numbers"] == content["numbers"]
    assert all(map(np.array_equal, read["arrays"], content["arrays"]))
    names = ("generator", "path", "counts")
    assert [read[name] for name in names] == [content[name] for name in names]


def test_names_of_older_versions(tmp_path):
    """NumPy before 2 and pathlib of Python 3.13 give the same things other names."""
    torch.save({"n": np.float64(0.5), "p": tmp_path}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "x.pt").read_bytes()
    other = whole.replace(b"numpy._core", b"numpy.core").replace(b"cpathlib\n", b"cpathlib._local\n")
    assert other != whole
    (tmp_path / "x.pt").write_bytes(other)
    assert unpickle(tmp_path / "x.pt") == {"n": 0.5, "p": tmp_path}


def test_the_name_of_a_file_does_not_say_what_it_is(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    assert torch.equal(unpickle(tmp_path / "model.safetensors")["w"], torch.ones(2))


@pytest.mark.parametrize("plain", [False, True])
def test_nothing_runs(tmp_path, plain):
    made = tmp_path / "made"
    if plain:
        (tmp_path / "x.pt").write_bytes(pickle.dumps({"w": Runs(made)}, protocol=2))
    else:
        torch.save({"w": Runs(made)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt' pickles posix\.mkdir, and unpickling that could run code"):
        unpickle(tmp_path / "x.pt")
    assert not made.exists()


def test_other_contents(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": collections.deque()}, path)
    with pytest.raises(ValueError, match=r"pickles collections\.deque, and"):
        unpickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(ValueError, match=r"^path must be a whole file of torch\.save; '.*x\.pt' is not: "):
        unpickle(path)
    path.write_bytes(pickle.dumps({"w": 1}, protocol=4))
    with pytest.raises(ValueError, match=r"is not: no checkpoint$"):
        unpickle(path)
    with pytest.raises(FileNotFoundError):
        unpickle(tmp_path / "none.pt")


@pytest.mark.parametrize("new", [True, False])
def test_every_length_of_a_truncated_file(tmp_path, new):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.arange(8.0)}, path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"^path must .*; {re.escape(repr(str(path)))} (is not: |pickles )"):
            unpickle(path)
