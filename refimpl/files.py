"""Writing files so that a crash never leaves a partial one."""

import io
import os
import secrets
import warnings
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to `path`, whole or not at all; parent folders are made.

    The data is written to a temporary file beside the target, which then replaces it in one step. An OSError names the
    target.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, f"{path}") from None
        raise


def save_figure(path: str | os.PathLike[str], figure: Any, dpi: int = 150) -> None:
    """Write a Matplotlib figure as PNG with `write_atomically`; what its font lacks becomes an empty box."""
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from")
        figure.savefig(png, format="png", dpi=dpi)
    write_atomically(path, png.getvalue())
