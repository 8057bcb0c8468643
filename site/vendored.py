"""What the built site serves of others: packages of npm, by version and checksum, fetched once into build/vendor."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

# name: (version, checksum as npm states it, what of the package is needed)
PACKAGES = {
    "katex": (
        "0.19.1",
        "sha512-jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        ("dist/katex.js", "dist/katex.min.css", "dist/fonts/*.woff2", "LICENSE"),
    ),
    # The version that jupyterlite-pyodide-kernel of constraints.txt asks for.
    "pyodide": (
        "314.0.6",
        "sha512-BKDTJyIqFxC4BExLqeRS3f5xvXZIjOt8C3zGLN/Cc7tFxSwvKVhVkchQQ2AGLOtR4YrVOIFxbV8poyDOOmWwxQ==",
        ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip"),
    ),
    "onnxruntime-web": (
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),  # WebAssembly alone, without GPU code
    ),
}
NEEDED = ("katex", "onnxruntime-web")  # by every site; Pyodide is for JupyterLite alone


class NotFetchedError(Exception):
    """A package could not be had from npm."""


def vendored(name, folder):
    """The folder with the needed files of a package, below `folder`; fetched if they are not there yet.

    NotFetchedError where there is no npm, no network, or a file that is not the one meant.
    """
    version, checksum, needed = PACKAGES[name]
    out = Path(folder) / f"{name}-{version}"
    if out.is_dir():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as part:
        archive = _pack(f"{name}@{version}", Path(part))
        got = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if got != checksum:
            raise NotFetchedError(f"{archive.name} must have the checksum {checksum}, got {got}")
        with tarfile.open(archive) as file:
            wanted = [member for member in file if any(Path(member.name).match(f"package/{each}") for each in needed)]
            file.extractall(part, wanted, filter="data")
        (Path(part) / "package").rename(out)
    return out


def _pack(package, folder):
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetchedError(f"{package} is fetched by npm, which is not here: install nodejs and npm")
    done = subprocess.run([npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotFetchedError(f"npm could not fetch {package}:\n{done.stderr}")
    return folder / done.stdout.split()[-1]
