"""Files of torch.save, read without running what they might hold: the reader for `refimpl.interop.load_folder`."""

import argparse
import pathlib
import pickle
import re
import warnings

import numpy as np
import torch


def _dict(*_):
    """In place of a defaultdict, which torch makes but does not fill."""
    return {}


# What trainers save beside weights, under the names that old and new versions give it; making one runs nothing else.
SAFE = [
    argparse.Namespace, (_dict, "collections.defaultdict"), dict, list, int, float, np.ndarray, np.dtype,
    *((pathlib.PosixPath, f"pathlib{module}.PosixPath") for module in ("", "._local")),
    *(
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (np.ndarray(0).__reduce__()[0], np.float64(0).__reduce__()[0])
        for core in ("core", "_core")
    ),
    *{type(np.dtype(code)) for code in np.typecodes["All"]},
]  # fmt: skip


def unpickle(path):
    """What torch.save wrote, with tensors on the CPU: arrays, numbers, texts, paths, and argparse's namespaces.

    Raises ValueError for a file that holds anything else, is truncated, or is none of torch.save; OSError.
    """
    try:
        with (
            open(path, "rb") as file,  # by its name, torch would take any .safetensors for what it is not
            torch.serialization.safe_globals(SAFE),
            warnings.catch_warnings(action="ignore"),
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # bytes that are no pickle, or half of one, raise anything
        if found := re.search(r"(?:GLOBAL|function|class) (\S+\.\S+)", f"{error}"):
            raise ValueError(
                f"path must hold weights and settings alone; {str(path)!r} pickles {found[1]}, and unpickling that could "
                f"run code: save its state_dict() anew if you trust it"
            ) from None
        # torch's own message advises against the check.
        why = "no checkpoint" if isinstance(error, pickle.UnpicklingError) else f"{error}".partition(". ")[0]
        raise ValueError(f"path must be a whole file of torch.save; {str(path)!r} is not: {why}") from None
