"""Version 4: `gpu.kernels.triton_retention`, two passes whose chunks and tiles were chosen by measuring.

Found: it took six steps, and longer than predicted. States + outputs, ms, T = 4,096, on an H200:
1. Chunks of 256 tokens, the states 0.27 GB: predicted 0.20 + 0.35, measured 0.24 + 0.52. A branch around the state's
   part made each product wait for the one before it, and the weights of the states were computed again at each step.
2. Without these: predicted 0.21 + 0.42, measured 0.23 + 0.44. The profiler saw the L2 cache at 76 % of its rate: scores
   and the state's part each read the queries, and two tiles of columns read the keys.
3. One pass over K for both products, chunks of 128: predicted 0.28 + 0.31, measured 0.28 + 0.39. The states are now twice
   the memory traffic, which runs at 80 % of a copy's bandwidth: what is left is waiting between tiles.
4. Programs that live on and read the next tile while they end the last: measured 0.375. Writing outputs by halves leaves
   room to read four steps ahead: predicted 0.35, measured 0.39, because the mask now took 24 registers more than there are.
5. Lags as integers, and nothing spills: predicted 0.34 for outputs, measured 0.337, which is 94 % of a copy's bandwidth.
6. The state before the first token, zero, is neither stored nor read: predicted 2.5 % at T = 2,048, by its bytes, and not
   measured alone. Of 18 tiles of the state one of 128 x 256 took 0.27 instead of 0.29, where sequences suffice to fill the
   GPU.
The prediction, 0.55, rests on chunks of 256, which step 3 gave up, and nobody had foreseen the waiting.
"""

import functools

from gpu.kernels.triton_retention import retention_chunkwise_triton

retention = functools.partial(retention_chunkwise_triton, chunk_size=128)  # without a size, version 5 on a Hopper GPU

PREDICTED_MS = 0.55
PREDICTION = """Chunks of 256 tokens: the states are 0.27 GB, written once and read once, 0.13 ms; inputs and outputs, with
the keys and values read twice, 1.2 GB, 0.28 ms. Products 0.22 TFLOP, 0.28 ms at the peak and twice that as Triton reaches
it. States 0.2 ms, outputs 0.35 ms."""
