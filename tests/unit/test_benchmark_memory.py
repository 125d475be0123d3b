"""Peak memory is measured to a few percent, on allocations whose size is known."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kanmlip.benchmark.contenders import Contender
from kanmlip.benchmark.memory import MAP_FROM, peak_mib, run_child
from kanmlip.errors import KanmlipError

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident sets are read from /proc")
CODE = """
import json, torch
from kanmlip.benchmark.memory import measure_peak
def step(n=2**20):
    a = torch.ones(n)              # 4 MiB
    b = a + 1                      # 8 MiB
    del a
    return [b * i for i in range(3)]  # 4 + 12 MiB, all of which live at the end
def again(n=2**22):
    torch.ones(n).sum()            # 16 MiB
step(64), again(64)                # loads the code, as the warm-up of a real measurement does
print(json.dumps([measure_peak(step), measure_peak(again), measure_peak(again), measure_peak(lambda: None)]))
"""


@needs_linux
def test_the_peak_of_known_allocations_in_a_fresh_process() -> None:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MAP_FROM), "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    step, first, second, nothing = json.loads(done.stdout)
    assert step == pytest.approx(16, rel=0.05)
    assert first == pytest.approx(16, rel=0.05)
    assert second == pytest.approx(16, rel=0.05)  # freed memory is not reused unseen
    assert abs(nothing) < 0.3


@needs_linux
def test_a_stored_basis_is_seen_and_the_measurement_repeats() -> None:
    contender = Contender("efficient-kan", (64, 8, 1))
    first, second = (peak_mib(contender, 1000, "float32", "cpu") for _ in range(2))
    mlp = peak_mib(Contender("mlp", (64, 8, 1)), 1000, "float32", "cpu")
    assert first is not None and second is not None and mlp is not None
    assert first == pytest.approx(second, rel=0.03)
    basis = 1000 * 64 * 8 * 4 / 2**20
    assert first > 4 * basis
    assert mlp < basis


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(KanmlipError, match=r"memory of bspine torch: the child process failed with code 1: .*Did you mean 'bspline'"):
        peak_mib(Contender("kan", (4, 2), "bspine", "torch"), 10, "float32", "cpu")


@pytest.mark.parametrize("returning", [True, False])
def test_a_child_gives_freed_memory_back_or_keeps_it_as_training_does(
    returning: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import json\nfrom kanmlip.malloc import keep_freed_memory\nprint(json.dumps(keep_freed_memory()))\n"
    (tmp_path / "asked.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    kept = run_child("asked", {}, "a question", returning=returning)
    assert not (kept and returning)
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        assert kept is not returning
