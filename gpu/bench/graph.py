"""A call as a CUDA graph."""

from ..numerics import record


class Recorded:
    """A call as a CUDA graph, kept together with the memory that the graph reads and writes."""

    def __init__(self, call, device):
        self.call = call
        self.graph, self.result = record(call, device)
