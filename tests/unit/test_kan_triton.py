"""The Triton backend without a GPU: its arithmetic in Triton's interpreter, and its kernels compiled for a Hopper GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kanmlip.benchmark.triton_check import BASES
from kanmlip.kan import BSpline, backend_triton
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.triton.tuning import Kernel

triton = pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
compiled = pytest.mark.skipif(INTERPRETED, reason="this whole process interprets")


@pytest.mark.slow
def test_kernels_in_the_interpreter() -> None:
    """Triton decides when it is imported, so that this needs a process of its own."""
    path = Path(__file__).with_name("triton_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-W", "ignore::RuntimeWarning", str(path)]
    done = subprocess.run(command, env=environment, cwd=path.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@compiled
def test_the_cpu_is_not_available_to_compiled_kernels() -> None:
    assert not backend_triton.available(torch.device("cpu"))


def test_tuning_needs_a_gpu() -> None:
    from kanmlip.kan.triton.tuning import tune

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="GPU"):
        tune(Expansion(BSpline(), True, True))


def test_every_layer_has_tiles_that_are_powers_of_two() -> None:
    from kanmlip.kan.triton.tuning import KERNELS, candidates, choose

    for kernel in KERNELS:
        for dtype in (torch.float32, torch.float64):
            for outputs in (1, 16, 65):
                for inputs in (1, 33, 500):
                    tiles = choose(kernel, dtype, inputs, outputs)
                    assert all(size & (size - 1) == 0 for size in tiles[:4])
                    assert tiles.precision == "ieee"
                assert any(candidates(kernel, dtype, outputs))


@compiled
@pytest.mark.parametrize("kernel", ["output", "input", "weight"])
@pytest.mark.parametrize(
    ("basis", "dtype", "outputs"),
    [("bspline", torch.float32, 32), ("gaussian", torch.float32, 3), ("fourier", torch.float64, 32), ("chebyshev", torch.float32, 32)],
)
def test_kernels_compile_for_hopper(
    kernel: Kernel, basis: str, dtype: torch.dtype, outputs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter takes more than the compiler does; the compiler needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kanmlip.kan.triton import kernels, launch

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(kernels, f"{kernel}_kernel")
    expansion = Expansion(BASES[basis], True, True)
    shape, tiles = launch._shape(kernel, expansion, torch.empty(1, 64, dtype=dtype), outputs, True, None)
    constants = {"F": launch.functions(expansion, 0), "S": shape}
    kinds = {"F": "constexpr", "S": "constexpr", "rows": "i32", "share": "i32"}
    pointer = "*fp32" if dtype == torch.float32 else "*fp64"
    signature = {name: kinds.get(name, pointer) for name in function.arg_names}
    source = ASTSource(function, signature, constexprs=constants)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
