"""The MD benchmarks of Table 4: which are there, and running those that are not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kanmlip.benchmark.md_record import MDCase, read_md_file
from kanmlip.benchmark.md_report import file_name
from kanmlip.errors import DataError
from kanmlip.reproduction.spec import Benchmarks, Budget

# Table 4 is Allegro with Gaussian KANs by placement, at equal widths.
MODEL, BASIS, PLACEMENTS = "allegro", "gaussian", ("besides_output", "output", "all")
SMOKE, GPU = "smoke", "gpu"


@dataclass(frozen=True)
class MDBenchmark:
    """The cells of a budget; of each all placements in turns.

    Attributes:
        steps: Atoms → steps of molecular dynamics.
        rows: The printed rows.
        size: Of the model, which Table 4 and the claim on MD look for: the budget's.
        device: ``cuda`` for budget gpu where there is such a device, else ``cpu``.
        minutes: What the steps of a cell are cut to; 0 for no bound.
        folder: Where results are. Those of budget smoke, whose times mean nothing, have a folder of their own.
    """

    steps: dict[int, int]
    rows: tuple[str, ...]
    size: str
    device: str
    minutes: float
    folder: Path

    def missing(self) -> list[int]:
        """Cells without a result of this size and device, of Table 4's contenders, of all steps or as many as fit the same limit."""
        cases = self._cases()
        return [atoms for atoms in sorted(self.steps) if not any(case.atoms == atoms and self._counts(case) for case in cases)]

    def command(self) -> list[str]:
        """What measures the missing cells; all if none is."""
        cells = self.missing() or sorted(self.steps)
        arguments = ["--size", self.size, "--device", self.device, "--sizes", ",".join(map(str, cells))]
        arguments += ["--steps", ",".join(str(self.steps[atoms]) for atoms in cells), "--minutes", f"{self.minutes * len(cells):g}"]
        arguments += ["--models", MODEL, "--bases", BASIS, "--output", str(self._output(cells))]
        less = ["--rounds", "2", "--match", "widths"] if self.size == SMOKE else []
        return [sys.executable, "-m", "kanmlip.cli.bench", "md", *arguments, *less]

    def run(self) -> bool:
        """Run unless nothing is missing, and pass on what is printed; says whether everything is there then."""
        if self.missing():
            print(f"MD benchmarks: {', '.join(map(str, self.missing()))} atoms, size {self.size}, {self.device}", flush=True)
            print(f"{self.remark}\n" if self.remark else "", end="", flush=True)
            subprocess.run(self.command(), check=False)
        return not self.missing()

    @property
    def remark(self) -> str:
        """That budget gpu has no GPU here, and what is measured instead; empty if it has one or needs none."""
        on_gpu = {case.atoms for case in self._cases() if case.device == "cuda" and self._counts(case)}
        if self.size != GPU or self.device == "cuda" or on_gpu >= self.steps.keys():
            return ""
        return (
            "NO GPU: the MD benchmarks of budget gpu need a CUDA device and torch finds none here; measured instead are the same models on "
            f"the CPU, cut to {self.minutes:g} minutes a cell, which says nothing about a GPU's time or memory. With a GPU the same "
            "command measures them there"
        )

    def _counts(self, case: MDCase) -> bool:
        devices = {self.device, "cuda"} if self.size == GPU else {self.device}
        if (case.model, case.size) != (MODEL, self.size) or case.device not in devices or not case.keep_hidden:
            return False
        contenders = [case.find("none"), *(case.find(placement, BASIS, "widths") for placement in PLACEMENTS)]
        if any(contender is None or contender.timing is None for contender in contenders):
            return False
        asked = self.steps.get(case.atoms, 0)
        rounds = max(1, case.rounds)
        whole = case.steps // rounds >= asked // rounds  # every round has equally many
        cut_alike = case.device == "cpu" and 0 < self.minutes <= (case.minutes_a_case or 0)
        return whole or (case.steps_asked >= asked and cut_alike)

    def _cases(self) -> list[MDCase]:
        """Where ``kanmlip-tables`` looks for them; it names files that cannot be read."""
        cases = []
        for path in sorted([*self.folder.glob("md_*.json"), *self.folder.glob("*/md_*.json")]):
            try:
                cases += read_md_file(path)
            except DataError:
                continue
        return cases

    def _output(self, cells: list[int]) -> Path:
        """A command writes one file, of its size and device: into a folder of its own where that would replace what was measured before."""
        there = self.folder / f"{file_name(self.size, self.device)}.json"
        return self.folder / f"{'_'.join(map(str, cells))}_atoms" if there.exists() and self.size != SMOKE else self.folder


def md_benchmark(spec: Benchmarks, budget: Budget, results: Path) -> MDBenchmark:
    """The benchmarks of a budget.

    Args:
        spec: From conf/reproduction.yaml.
        budget: Of the reproduction.
        results: Results root.
    """
    folder = results / "benchmarks" / SMOKE if budget == SMOKE else results / "benchmarks"
    device = "cuda" if budget == GPU and _has_cuda() else "cpu"
    minutes = spec.minutes.get(budget, 0.0) if device == "cpu" else 0.0
    return MDBenchmark(spec.steps.get(budget, {}), spec.rows, budget, device, minutes, folder)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
