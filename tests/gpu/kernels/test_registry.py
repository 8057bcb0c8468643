"""The registries of kernels and models: every row works, and a row is all that a new one needs."""

import subprocess
import sys

import pytest
import torch

from gpu.bench.config import BenchmarkConfig
from gpu.bench.decoding import decoding_candidates
from gpu.bench.rows import colour, label
from gpu.bench.run import missing
from gpu.bench.training import training_candidates
from gpu.kernels.registry import RETENTIONS, step_of
from gpu.models import baseline
from gpu.models.registry import MODELS
from gpu.training.config import RunConfig
from refimpl import head_decays, retention_recurrent, retention_step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"dim": 32, "num_layers": 1, "num_heads": 2}
CONFIG = BenchmarkConfig(**SIZES, vocab_size=256, compile=False, times=(8,), tokens=8, chunk_sizes=(4,), contexts=(4,))


@pytest.mark.filterwarnings("default")  # flash-linear-attention warns of much while it is imported
@pytest.mark.parametrize("name", RETENTIONS)
def test_every_row_that_runs_here_is_a_retention_with_a_step(name):
    if not RETENTIONS[name].available(DEVICE):
        pytest.skip(f"{name} needs {RETENTIONS[name].needs}")
    draw = torch.Generator(DEVICE).manual_seed(0)
    q, k, v = (torch.randn(2, 4, 40, width, device=DEVICE, generator=draw) for width in (64, 64, 32))
    gamma = head_decays(4, xp=torch, device=DEVICE)
    want = retention_recurrent(q, k, v, gamma)
    out, state = RETENTIONS[name](16)(*(x[:, :, :39] for x in (q, k, v)), gamma)
    last, state = step_of(name)(*(x[:, :, 39:].contiguous() for x in (q, k, v)), gamma, state)
    tolerance = 1e-2 if RETENTIONS[name].fused else 1e-5  # of the root mean square: fused kernels may multiply in TF32
    for got, wanted in zip((torch.cat((out, last), 2), state), want, strict=True):
        assert (got - wanted).norm() <= tolerance * wanted.norm()


def test_a_kernel_is_one_row(monkeypatch):
    """Settings, training, decoding, labels and what is missing follow from it."""
    row = RETENTIONS["chunkwise"]._replace(
        label="new", kernel_label="new kernel", colour="#123456", chunked=False, step=lambda: retention_step,
        available=lambda device: device == "cpu", needs="a CPU",
    )  # fmt: skip
    monkeypatch.setitem(RETENTIONS, "new", row)
    assert RunConfig(retention="new").retention == "new"
    for found in (training_candidates(CONFIG, 8, False, "cpu"), decoding_candidates(CONFIG, 4, 1, False, "cpu")):
        (candidate,) = (each for each in found if each.row["retention"] == "new")
        assert (label(candidate.row), colour(candidate.row)) == ("RetNet, new", "#123456")
        candidate.build().call()
    assert "new kernel: not measured without a CPU" not in missing("cpu", CONFIG)
    monkeypatch.setitem(RETENTIONS, "new", row._replace(available=lambda device: False))
    assert "new kernel: not measured without a CPU" in missing("cpu", CONFIG)


def test_a_baseline_is_one_row(monkeypatch):
    monkeypatch.setitem(MODELS, "new", MODELS["gru"]._replace(label="New", colour="#123456"))
    monkeypatch.setitem(baseline.MIXERS, "new", MODELS["new"].load_mixer())
    config = BenchmarkConfig(**{**CONFIG.__dict__, "models": ("new",)})
    for found in (training_candidates(config, 8, False, "cpu"), decoding_candidates(config, 4, 1, False, "cpu")):
        (candidate,) = found
        assert (label(candidate.row), colour(candidate.row)) == ("New", "#123456")
        candidate.build().call()


def test_names_and_labels_are_known_without_torch():
    program = "import sys, gpu.bench.rows, gpu.models.registry; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_names_of_before_are_still_imported_from_the_registry():
    from gpu.retentions import step_of as old

    from gpu.kernels.registry import FLA, fused_step, has_fla, has_fused

    assert (FLA, old) == ("flash-linear-attention", step_of)
    assert step_of("triton") is fused_step
    assert torch.ops.retnet.step
    assert not has_fused("cpu")
    assert not has_fla("cpu")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from gpu.kernels.registry import nothing  # noqa: F401
