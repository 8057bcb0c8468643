"""Weights in and out: what is found on a hub, the authors' torchscale, flash-linear-attention, and files of our own.

`load_folder` reads any of them and obeys the settings beside the weights; `save_folder` writes what others load. Below
them, `from_torchscale`, `to_torchscale`, `from_fla` and `to_fla` convert state dicts, which map names to arrays and hold
no settings. Written for torchscale 0.3.0, flash-linear-attention 0.6.0 and syncdoth/RetNet of October 2023.
"""

from .fla import from_fla, to_fla
from .folder import load_folder
from .saving import save_folder, write_safetensors
from .torchscale import from_torchscale, to_torchscale

__all__ = [
    "from_fla", "from_torchscale", "load_folder", "save_folder", "to_fla", "to_torchscale", "write_safetensors",
]  # fmt: skip
