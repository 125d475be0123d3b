"""Memory that molecular dynamics with one contender needs, measured in a process of its own.

On a CPU the process is its resident set. What tensors hold is what torch's allocator reports to torch's profiler during a step, weights
added: scratch memory that kernels take from elsewhere is not in it, but is in the resident set.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kanmlip.benchmark.md_contenders import MDContender, MDPlan
from kanmlip.benchmark.md_modes import make_evaluate
from kanmlip.benchmark.md_record import MDMemory
from kanmlip.benchmark.md_simulation import Simulation
from kanmlip.benchmark.md_trajectory import Trajectory
from kanmlip.benchmark.memory import measure_peak, resident_kib, run_child
from kanmlip.malloc import trim

MIB = 2**20
# One to measure the process by, one with the profiler.
STEPS = 2


def measure_memory(plan: MDPlan, contender: MDContender, systems: Mapping[int, Path], package: Path) -> dict[int, MDMemory]:
    """Number of atoms → memory, from one fresh process that goes from system to system, the smallest first.

    Args:
        plan: The model, its size, device and dynamics.
        contender: What to measure.
        systems: Number of atoms → file of :meth:`Trajectory.save` with ``STEPS`` steps.
        package: The AOTInductor model of the contender, if that is its mode.

    Raises:
        KanmlipError: If the child process fails; carries the last line it wrote.
    """
    files = {str(atoms): str(systems[atoms]) for atoms in sorted(systems)}
    # What this process has on the device stays there while it waits.
    others = _device_used_mib() if plan.device != "cpu" else 0.0
    request = {"plan": asdict(plan), "contender": asdict(contender), "systems": files, "package": str(package), "others": others}
    found = run_child("kanmlip.benchmark.md_memory", request, f"memory of {plan.model} {contender.name}")
    return {int(atoms): MDMemory.model_validate(values) for atoms, values in found.items()}


def allocated_peak_mib(call: Callable[[], object]) -> float:
    """MiB that torch's CPU allocator had handed out during a call and not got back, at the highest point."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    # The running total of every allocation and release, which starts at 0 with the profiler.
    return max((int(event["args"]["Total Allocated"]) for event in events if event.get("name") == "[memory]"), default=0) / MIB


def weights_mib(module: nn.Module) -> float:
    """Of parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers())) / MIB


def _on_cpu(simulation: Simulation, weights: float, empty: float | None, _others: float) -> MDMemory:
    peak = measure_peak(lambda: simulation.advance(1))
    process = None if peak is None else resident_kib("VmHWM") / 1024
    return MDMemory(
        weights=weights, peak_allocated=weights + allocated_peak_mib(lambda: simulation.advance(1)), process=process, empty=empty
    )


def _on_cuda(simulation: Simulation, weights: float, empty: float | None, others: float) -> MDMemory:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    simulation.advance(STEPS)
    torch.cuda.synchronize()
    allocated, reserved = torch.cuda.max_memory_allocated() / MIB, torch.cuda.max_memory_reserved() / MIB
    process = _device_used_mib() - others
    return MDMemory(weights=weights, peak_allocated=allocated, peak_reserved=reserved, process=process, empty=empty)


def _device_used_mib() -> float:
    """Device memory in use by anybody."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) / MIB


def _empty_mib(plan: MDPlan, others: float) -> float | None:
    """Of this process with everything loaded."""
    setting = plan.prepare()
    on_cpu = MDPlan(**{**asdict(plan), "device": "cpu"})
    on_cpu.build(setting, MDContender("none", "", "", "eager"))  # imports upstream
    gc.collect()
    if plan.device != "cpu":
        torch.zeros(1, device=plan.device)
        torch.cuda.synchronize()
        return _device_used_mib() - others
    trim()
    try:
        return resident_kib("VmRSS") / 1024
    except OSError:
        return None


def _child(request: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Build, warm up on the smallest system, measure each."""
    torch.set_num_threads(1)
    lists = {name: tuple(value) for name, value in request["plan"].items() if isinstance(value, list)}
    plan, contender = MDPlan(**{**request["plan"], **lists}), MDContender(**request["contender"])
    others = request["others"]
    empty = _empty_mib(plan, others)
    setting = plan.prepare()
    potential, _ = plan.build(setting, contender)
    trajectories = {int(atoms): Trajectory.load(Path(path), plan.settings) for atoms, path in request["systems"].items()}
    smallest = next(iter(trajectories.values()))
    evaluate = make_evaluate(potential, contender.mode, plan.device, setting.model.collate([smallest.start]), Path(request["package"]))
    Simulation(evaluate, setting.model.collate, smallest).advance(STEPS)
    measure = _on_cpu if plan.device == "cpu" else _on_cuda
    weights = weights_mib(potential)
    found = {}
    for atoms, trajectory in trajectories.items():
        simulation = Simulation(evaluate, setting.model.collate, trajectory)
        found[atoms] = measure(simulation, weights, empty, others).model_dump()
        del simulation
    return found


if __name__ == "__main__":
    print(json.dumps(_child(json.loads(sys.argv[1]))))
