"""Version 5: the plan of version 3 in Gluon, where the programmer decides who computes what: `gpu.kernels.gluon_walk`.

Found, ms, 8 sequences of 2,048 tokens on an H200, in this order:
1. One group of eight warps holds 128 columns of the state, turned, so that it is the left factor from registers; a second
   makes the scores and reads ahead: 0.48, where the same in plain Triton took 0.67.
2. Two groups of 64 columns each, so that one multiplies while the other rounds its state: 0.42. The profiler saw them wait
   for scores, a quarter of the time, and the group that makes scores wait for room to read.
3. Scores first, then the reading of the next chunk: 0.39.
4. Values for the scores from shared memory and not from registers, so that the compiler keeps products in flight: 0.38.
What did not pay: the state's update before the scores (0.42), and one group alone on a multiprocessor where heads are few
(0.56 at 16 heads; segments of time take 0.50).
"""

from gpu.kernels.triton_retention import retention_chunkwise_triton as retention  # noqa: F401

PREDICTED_MS = 0.40
PREDICTION = """Version 3's bytes, 0.8 GB, 0.19 ms, and its products, 0.24 ms at the peak. If the products of one group hide
what another does between its own, and the state stays in registers, half of the peak is left: 0.4 to 0.5 ms."""
