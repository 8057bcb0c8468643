"""Messages between the grader and the process that runs a submission: JSON and raw bytes, no pickle.

A frame is two lengths, a JSON object and a payload. `run_from_bytes` reads what a hostile process may
have written: it allocates no memory for a length that is merely claimed, and accepts float64 arrays only.
"""

import json
import math
import struct

import numpy as np

from .runner import MOST_NUMBERS, Run

LENGTHS = struct.Struct(">II")
MOST_HEADER = 64 * 1024  # bytes of JSON in a frame
MOST_PAYLOAD = 64 * 1024 * 1024
PATIENCE = 10  # times its seconds are what a question may take where the cores are busy with other things
MOST_ARRAYS = 32  # in one answer, outputs and arguments together
MOST_AXES = 8
LONGEST_AXIS = 100_000_000  # an array without numbers may have a long axis, and takes no memory
MOST_CALLS = 64  # names of functions in one answer
PLAIN = "<f8"
KINDS = ("<f2", "<f4", "<f8")  # of the arrays a check may pass in

# The fields of an answer and their types.
FIELDS = {"outputs": list, "inputs": dict, "failure": str, "where": str, "written": bool, "calls": list}


class MalformedError(Exception):
    """A malformed message; the text says why, in one line."""


def frame(header, payload=b""):
    """Return one frame: `header` (what JSON can hold) and `payload` (bytes)."""
    header = json.dumps(header).encode()
    return LENGTHS.pack(len(header), len(payload)) + header + payload


def read_frame(read):
    """Return (header, payload) of the next frame, from `read(n)`; MalformedError where that gives fewer than n bytes."""

    def exactly(n):
        data = read(n)
        if len(data) < n:
            raise MalformedError("it is cut short")
        return data

    header_length, payload_length = LENGTHS.unpack(exactly(LENGTHS.size))
    if header_length > MOST_HEADER or payload_length > MOST_PAYLOAD:
        raise MalformedError("it is too long")
    return _object(exactly(header_length)), exactly(payload_length)


def call_to_bytes(arguments):
    """Return (header, payload) for the arguments of a call: arrays, floats, integers or None, by name."""
    fields, parts = [], []
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
            if array.dtype.str not in KINDS:
                raise TypeError(f"{name} must hold float16, float32 or float64, got {value.dtype}")
            fields.append({"name": name, "dtype": array.dtype.str, "shape": value.shape})
            parts.append(array.tobytes())
        else:
            fields.append({"name": name, "value": value})
    return fields, b"".join(parts)


def call_from_bytes(fields, payload):
    """Return the arguments that `call_to_bytes` wrote, by name, the arrays writeable."""
    arguments, at = {}, 0
    for one in fields:
        if "dtype" in one:
            dtype = np.dtype(one["dtype"])
            end = at + math.prod(one["shape"]) * dtype.itemsize
            native = np.frombuffer(payload[at:end], dtype).astype(dtype.newbyteorder("="))
            arguments[one["name"]], at = native.reshape(one["shape"]), end
        else:
            arguments[one["name"]] = one["value"]
    return arguments


def run_to_bytes(run):
    """Return a `Run` as one frame."""
    arrays = [*run.outputs, *run.inputs.values()]
    header = {
        "outputs": [array.shape for array in run.outputs],
        "inputs": {name: array.shape for name, array in run.inputs.items()},
        "failure": run.failure,
        "where": run.where,
        "written": run.written,
        "calls": run.calls,
    }
    return frame(header, b"".join(np.ascontiguousarray(array, dtype=PLAIN).tobytes() for array in arrays))


def run_from_bytes(data):
    """Return the `Run` in `data`; MalformedError if it is not exactly one `Run`."""
    if len(data) < LENGTHS.size:
        raise MalformedError("it is cut short")
    header_length, payload_length = LENGTHS.unpack_from(data)
    if header_length > MOST_HEADER:
        raise MalformedError("its header is too long")
    if len(data) != LENGTHS.size + header_length + payload_length:
        raise MalformedError("its length is not the one it claims")
    header = _object(data[LENGTHS.size : LENGTHS.size + header_length])
    if set(header) != set(FIELDS) or any(type(header[name]) is not kind for name, kind in FIELDS.items()):
        raise MalformedError("its fields are not those of an answer")
    if len(header["calls"]) > MOST_CALLS or any(type(name) is not str for name in header["calls"]):
        raise MalformedError("its calls are not a list of names")
    shapes = [*header["outputs"], *header["inputs"].values()]
    if len(shapes) > MOST_ARRAYS:
        raise MalformedError(f"it holds {len(shapes)} arrays")
    sizes = [_size(shape) for shape in shapes]
    if 8 * sum(sizes) != payload_length:
        raise MalformedError("it holds more or fewer numbers than its shapes say")
    arrays, at = [], LENGTHS.size + header_length
    for shape, size in zip(shapes, sizes, strict=True):
        arrays.append(np.frombuffer(data, PLAIN, size, at).astype(np.float64).reshape(shape))
        at += 8 * size
    outputs = len(header["outputs"])
    return Run(
        tuple(arrays[:outputs]),
        dict(zip(header["inputs"], arrays[outputs:], strict=True)),
        header["failure"],
        header["where"],
        header["written"],
        calls=tuple(header["calls"]),
    )


def _object(data):
    try:
        header = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedError("its header is not JSON") from None
    if type(header) is not dict:
        raise MalformedError("its header is not a JSON object")
    return header


def _size(shape):
    """Return how many numbers an array of `shape` holds; MalformedError if it is not a shape."""
    if type(shape) is not list or len(shape) > MOST_AXES:
        raise MalformedError("a shape in it is not a list of at most 8 integers")
    if any(type(n) is not int or not 0 <= n <= LONGEST_AXIS for n in shape) or math.prod(shape) > MOST_NUMBERS:
        raise MalformedError("an array in it claims a shape beyond all bounds")
    return math.prod(shape)
