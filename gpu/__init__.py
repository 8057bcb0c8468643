"""The reference on torch: the same forward pass, trained and sampled, on the CPU or a GPU."""

from refimpl.moved import keep_old_paths

keep_old_paths(__name__, {
    "turns": "bench.timing", "benchmark": "bench.run", "benchmark_config": "bench.config",
    "benchmark_training": "bench.training", "benchmark_decoding": "bench.decoding",
    "benchmark_kernels": "bench.kernels", "benchmark_accuracy": "bench.accuracy",
    "benchmark_targets": "bench.targets", "benchmark_paper": "bench.paper", "compile_ahead": "bench.compile_ahead",
    "retentions": "kernels.registry", "triton_states": "kernels.triton_states", "triton_step": "kernels.triton_step",
    "triton_common": "kernels.triton_common", "triton_tiles": "kernels.triton_tiles", "module": "models.retnet",
    "baseline": "models.baseline", "transformer": "models.attention", "linear_attention": "models.linear_attention",
    "gru": "models.gru", "parallelism": "parallel.strategies", "distributed": "parallel.processes",
    "sequence_parallel": "parallel.sequence", "report_paper": "report.paper", "benchmark_figures": "report.figures",
    "generate": "sampling.generate", "prompt_cache": "sampling.prompt_cache", "train": "training.run",
    "trainer": "training.step", "config": "training.config", "checkpoint": "training.checkpoint",
    "stopping": "refimpl.training.stopping", "training.stopping": "refimpl.training.stopping", "study": "training.study", "sweep": "training.sweep",
    "export": "training.export", "kernel_ladder.timing": "bench.timing",
})  # fmt: skip
