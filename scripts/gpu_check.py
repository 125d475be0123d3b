"""Check kanmlip on a machine with a GPU, in under nine minutes, and write what was found as one JSON file.

    python scripts/gpu_check.py [--output results/gpu/check.json]

1. the CUDA tests (tests/gpu), 2. the Triton kernels against their definition and a KAN layer's force-training step over an MLP's,
3. agreement of energies and forces between CPU and GPU, 4. a short Table 3 training on the GPU (the embedded toy set where the Ag
files are not at hand), 5. training-step ratios and peak memory of the four placements.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from kanmlip.benchmark import triton_check
from kanmlip.benchmark.interleave import interleave, ratios
from kanmlip.benchmark.training_step import Setting, our_epoch
from kanmlip.data.graph import batch_graphs
from kanmlip.data.root import cache_root, data_root
from kanmlip.data.statistics import compute_statistics
from kanmlip.errors import DataError
from kanmlip.experiment import results_root
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.environment import describe
from kanmlip.training.loop import open_fabric

TESTS_S, TRAINING_S = 150, 180
COMBINATIONS = [
    ("allegro", "none", "gaussian"),
    *(("allegro", placement, basis) for placement in ("output", "besides_output", "all") for basis in ("gaussian", "bspline", "fourier")),
    *((model, placement, "bspline") for model in ("nequip", "mace") for placement in ("none", "output")),
]
Report = dict[str, Any]


def cuda_tests() -> Report:
    """Run tests/gpu; without pytest on the machine, say so."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/gpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_S, check=False)
    return {"passed": done.returncode == 0, "summary": (done.stdout + done.stderr).strip().splitlines()[-1:]}


def prepare(arguments: list[str], frames: int) -> Setting:
    """Settings and graphs of the first toy frames."""
    config = compose_run(["dataset=toy", "budget=small", "trainer.device=cuda", *arguments])
    splits = config.dataset.load(data_root())
    graphs = config.model.graphs(splits.train[:frames], cache_root())
    return Setting(config.model, compute_statistics(graphs, config.model.cutoff), graphs, config.trainer)


def agreement() -> Report:
    """Largest difference between CPU and GPU: forces relative to the largest force, energies in eV per atom (float32 networks)."""
    result: Report = {}
    for model, placement, basis in COMBINATIONS:
        arguments = [f"model={model}", f"placement={placement}", f"basis={basis}"]
        config, setting = compose_run(["dataset=toy", "budget=small", *arguments]), prepare(arguments, 4)
        potential = setting.build(config.placement, config.basis).eval()
        graph = batch_graphs(setting.graphs)
        on_cpu = potential(graph)
        on_gpu = {name: value.cpu() for name, value in potential.to("cuda")(graph.to("cuda")).items()}
        force = float((on_gpu["forces"] - on_cpu["forces"]).abs().max() / on_cpu["forces"].abs().max())
        energy = float(((on_gpu["energy"] - on_cpu["energy"]) / graph.num_atoms).abs().max())
        result[f"{model} {placement} {basis}"] = {"forces": force, "energy": energy, "passed": max(force, energy) < 1e-5}
    return result


def short_table_3() -> Report:
    """Train the four placements of Table 3 for a few epochs, two at a time."""
    try:
        compose_run(["dataset=ag"]).dataset.check(data_root())
        dataset = "ag"
    except DataError:
        dataset = "toy"
    results = results_root() / "gpu" / "check"
    command = [
        sys.executable, "-c", "from kanmlip.cli.train import main; main()", "-m", "model=allegro", "basis=gaussian", f"dataset={dataset}",
        "placement=none,output,besides_output,all", "budget=small", "trainer.max_epochs=10", "trainer.device=cuda",
        "trainer.progress_bar=false",
    ]  # fmt: skip
    environment = {**os.environ, "KANMLIP_RESULTS": str(results)}
    done = subprocess.run(command, env=environment, timeout=TRAINING_S, check=False)
    records = [json.loads(path.read_text()) for path in sorted((results / "records").glob("*.json"))]
    metrics = ("val/force_mae_eV_per_A", "val/energy_mae_eV_per_atom", "time/per_epoch_s", "memory/peak_allocated_MB")
    runs = {record["labels"]["placement"]: {name: record["metrics"].get(name) for name in metrics} for record in records}
    return {"passed": done.returncode == 0, "dataset": dataset, "runs": runs}


def steps() -> Report:
    """Training-step ratios to the MLP and peak memory, Allegro at size gpu, float32."""
    contenders, peaks = {}, {}
    for placement in ("none", "output", "besides_output", "all"):
        for basis in ("gaussian", "bspline") if placement != "none" else ("gaussian",):
            arguments = ["model=allegro", "budget.size=gpu", f"placement={placement}", f"basis={basis}"]
            config, setting = compose_run(["dataset=toy", "budget=small", *arguments]), prepare(arguments, 10)
            fabric = open_fabric(setting.trainer)
            name = "MLP" if placement == "none" else f"{placement} {basis}"
            contenders[name] = our_epoch(setting, setting.build(config.placement, config.basis), fabric)
            torch.cuda.reset_peak_memory_stats()
            contenders[name]()
            peaks[name] = torch.cuda.max_memory_allocated() / 1e6
    measured = ratios(interleave(contenders, rounds=15, warmup=10), "MLP")
    return {name: {**vars(ratio), "peak_allocated_MB": peaks[name]} for name, ratio in measured.items()}


PARTS = (("tests", cuda_tests), ("triton", triton_check.check), ("agreement", agreement), ("table_3", short_table_3), ("steps", steps))


def main() -> int:
    """Run every part, print a line each, write the JSON; exit code 1 if a part failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=results_root() / "gpu" / "check.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("gpu-check: torch finds no CUDA device here; nothing was checked\n")
        return 2
    report: Report = {"environment": describe("cuda", 1, "toy")}
    failed = False
    for name, part in PARTS:
        start = time.perf_counter()
        try:
            report[name] = part()
            ok = report[name].get("passed", all(entry.get("passed", True) for entry in report[name].values()))
        except Exception as error:  # a part that breaks must not lose what the others found
            report[name], ok = {"error": f"{type(error).__name__}: {error}"}, False
        failed |= not ok
        print(f"{name}: {'ok' if ok else 'FAILED'} in {time.perf_counter() - start:.0f} s: {json.dumps(report[name])}", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
