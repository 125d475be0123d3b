"""Peak memory of one force-training step of a layer, each measured in a process of its own.

On a CPU it is the resident set's high-water mark during the step less the resident set before it, as the kernel counts them: scratch
memory of compiled kernels and of the maths library is in it, as is everything that a profiler of tensors would miss. For that to
repeat, large allocations must go straight to the kernel and back (glibc's ``MALLOC_MMAP_THRESHOLD_``), and everything that is loaded or
set up once must have been, which a step on a few rows sees to. On CUDA it is ``torch.cuda.max_memory_allocated``.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from kanmlip.benchmark.contenders import Contender
from kanmlip.benchmark.passes import make_input, make_pass
from kanmlip.errors import KanmlipError
from kanmlip.malloc import trim

# Bytes from which an allocation is a mapping of its own; below, glibc keeps freed memory.
MAP_FROM = 1 << 16
WARMUP_ROWS = 64
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(contender: Contender, rows: int, dtype: str, device: str, through_input: bool = True) -> float | None:
    """MiB that a force-training step needs beyond weights and inputs; none where the system does not tell.

    Raises:
        KanmlipError: If the child process fails; carries the last line it wrote.
    """
    request = {"contender": asdict(contender), "rows": rows, "dtype": dtype, "device": device, "through_input": through_input}
    return cast("float | None", run_child("kanmlip.benchmark.memory", request, f"memory of {contender.name}"))


def run_child(module: str, request: dict[str, Any], what: str, *, returning: bool = True) -> Any:
    """What a module prints last, as JSON, when it is run as a program with ``request`` in a process of its own, of one thread.

    Args:
        module: Its name.
        request: What it is asked, its only argument.
        what: Begins the message of a failure.
        returning: Have the process give back what it frees, so that the high-water mark is that of what is in use. Otherwise it does
            with freed memory what it would do for a user.

    Raises:
        KanmlipError: If the process fails: ``what``, and the last line it wrote.
    """
    package = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": "1",
    }
    if returning:
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(MAP_FROM), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KanmlipError(f"{what}: the child process failed with code {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure_peak(call: Callable[[], object], device: str = "cpu") -> float | None:
    """MiB at the highest point of one call above those before it, in this process; none where the system does not tell."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    trim()
    try:
        _CLEAR.write_text("5")  # sets the high-water mark to what is resident now
        start = resident_kib("VmRSS")
        call()
        return (resident_kib("VmHWM") - start) / 2**10
    except (OSError, AttributeError):
        return None


def resident_kib(name: str) -> int:
    """A line of this process's status: ``VmRSS``, what is resident, or ``VmHWM``, the most since it was last reset.

    Raises:
        OSError: If the system does not tell.
    """
    match = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{_STATUS} does not tell {name}")
    return int(match.group(1))


def _child(request: dict[str, Any]) -> float | None:
    """Build, warm up on a few rows, measure."""
    torch.set_num_threads(1)
    dtype, device = getattr(torch, request["dtype"]), request["device"]
    fields = request["contender"]
    contender = Contender(**{**fields, "widths": tuple(fields["widths"])})
    network = contender.build(dtype, device)
    x = make_input(request["rows"], contender.widths[0], dtype, device)
    step = make_pass("training", network, x, request["through_input"])
    warm = make_pass("training", network, x[:WARMUP_ROWS], request["through_input"])
    for _ in range(2):
        warm()
    return measure_peak(step, device)


if __name__ == "__main__":
    print(json.dumps(_child(json.loads(sys.argv[1]))))
