"""The model in the reader's browser: its decode step and the program that runs it, as scripts of the site.

A page on a disk may fetch no file, but it may load scripts. So each file is compressed and written as text into a few of them,
which `static/byte_model.js` puts together again when the reader asks for it.
"""

import gzip
from base64 import b64encode

from decode_graph import decode_graph

from refimpl import head_decays
from refimpl.tree import flatten
from refimpl.weights import PRETRAINED, load_params, pretrained_card

FOLDER = "writer"
PART = 750_000  # bytes in a script: a multiple of 3, so that each is whole base64
PROGRAM = {
    "program": "dist/ort.wasm.bundle.min.mjs",
    "machine": "dist/ort-wasm-simd-threaded.wasm",
}  # of onnxruntime-web: one thread, no GPU


def writer(onnxruntime_web, write):
    """Write the scripts; returns what the page must know of them and of the model, as JSON knows it.

    onnxruntime_web: the folder of the package. write: called with the name of each file below the static folder and its text.
    """
    params, config = load_params(PRETRAINED)
    files = {name: (onnxruntime_web / path).read_bytes() for name, path in PROGRAM.items()}
    files["model"] = decode_graph(params, config)
    scripts = {name: list(_scripts(data)) for name, data in files.items()}
    for name, texts in scripts.items():
        for number, text in enumerate(texts):
            write(f"{FOLDER}/{name}-{number}.js", text)
    return {
        "scripts": {name: len(texts) for name, texts in scripts.items()},
        "bytes": sum(len(text) for texts in scripts.values() for text in texts),
        "weights": pretrained_card()["sha256"],
        "parameters": sum(array.size for array in flatten(params).values()),
        "vocab": config.vocab_size, "dim": config.dim, "layers": config.num_layers, "heads": config.num_heads,
        "key_dim": config.key_dim, "value_dim": config.value_dim,
        "gamma": head_decays(config.num_heads, config.gamma_schedule).tolist(),
    }  # fmt: skip


def _scripts(data):
    data = gzip.compress(data, mtime=0)
    for start in range(0, len(data), PART):
        yield f'writerPart("{b64encode(data[start : start + PART]).decode()}");\n'
