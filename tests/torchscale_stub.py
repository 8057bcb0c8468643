"""The authors' torchscale, importable without its dependencies fairscale and timm, and computing in one precision.

It imports three functions of theirs for training on many devices and for drop path; a plain decoder calls none.
"""

import contextlib
import importlib
import importlib.util
import sys
import types

import pytest
import torch

STUBS = {
    "fairscale": {},
    "fairscale.nn": {"checkpoint_wrapper": None, "wrap": None},
    "timm": {},
    "timm.models": {},
    "timm.models.layers": {"drop_path": None},
}


def import_torchscale():
    """Its module architecture.retnet and its RetNetConfig; skips the module that asks if it is not installed."""
    if importlib.util.find_spec("torchscale") is None:
        pytest.skip("torchscale is not installed: make installs it, without its dependencies", allow_module_level=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, names in STUBS.items():
            if name not in sys.modules:
                patch.setitem(sys.modules, name, types.ModuleType(name))
                vars(sys.modules[name]).update(names)
        retnet = importlib.import_module("torchscale.architecture.retnet")
        config = importlib.import_module("torchscale.architecture.config")
    return retnet, config.RetNetConfig


@contextlib.contextmanager
def no_casts_down():
    """Its norms and activations call .float() even in a model of float64; here that keeps float64."""
    cast = torch.Tensor.float
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else cast(x))
        yield
