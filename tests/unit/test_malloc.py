"""Freed memory that a process keeps: a step's second time asks the system for next to nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from kanmlip.malloc import keep_freed_memory

# Page faults of the last ten of forty steps, each of which makes tensors of 4 MiB and drops them in a backward pass.
PROGRAM = """
import resource, sys
import torch
from kanmlip.malloc import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("not kept")
for step in range(40):
    if step == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(2**20, requires_grad=True)
    y = x
    for _ in range(10):
        y = torch.sin(y)
    y.sum().backward()
    del x, y
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))} | more


def faults(mode: str, **more: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], env=environment(**more), capture_output=True, text=True, check=True)
    return int(done.stdout)


@glibc
def test_what_was_freed_is_there_for_the_next_step() -> None:
    # What glibc does by itself depends on the order of all that was freed before: 25,000 to 50,000 faults here, seldom few.
    handed_back = faults("default", MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert handed_back > 100 * 1024  # ten tensors of 1,024 pages in each of ten steps
    assert faults("keep") < 10 * 1024


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_environment_has_the_last_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "131072" if name.startswith("MALLOC") else "glibc.malloc.trim_threshold=131072")
    assert not keep_freed_memory()


@glibc
def test_what_is_kept_does_not_hide_what_a_batch_needs() -> None:
    """Ahead of training its largest batches are measured: by memory that earlier ones have left, nothing would seem to be needed."""
    program = """
import torch
from kanmlip.malloc import keep_freed_memory
from kanmlip.training.memory import Memory

def batch():
    x = [torch.ones(2**18) for _ in range(64)]  # 64 blocks of 1 MiB

keep_freed_memory()
batch()
print(Memory(torch.device("cpu")).peak(batch))
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not let a process reset its high-water mark")
    assert float(done.stdout) == pytest.approx(64 * 2**20, rel=0.1)
