"""Files of torch.save, read without running what they might hold: the reader for `refimpl.interop.load_folder`."""

import argparse
import pickle
import re
import warnings

import torch


def unpickle(path):
    """What torch.save wrote, with tensors on the CPU: arrays, numbers, texts, and argparse's namespaces, as fairseq saves.

    Raises ValueError for a file that holds anything else, is truncated, or is none of torch.save; OSError.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
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
