"""Version 4: `gpu.triton_retention`, two passes whose chunks and tiles were chosen by measuring."""

from gpu.triton_retention import retention_chunkwise_triton as retention  # noqa: F401

PREDICTED_MS = 0.63
PREDICTION = """Before anything was measured: chunks of 256 tokens, so that the states are 0.27 GB, written once and read
once, 0.13 ms; inputs and outputs, with keys and values read twice, 1.2 GB, 0.28 ms; products 0.22 TFLOP, 0.28 ms at the
peak and twice that as Triton reaches it. States 0.2 ms and outputs 0.35 ms, together 0.55 ms.
Measured on an H200, when tiles were first chosen: 0.24 + 0.52 ms. The reasons were found in the compiler's report. A
branch around the state's part of the outputs made it wait for each product before the next; and the states' weights,
powers of gamma, were computed again at each step, by every thread for itself. Both are gone, the next prediction is
0.21 + 0.42 ms."""
