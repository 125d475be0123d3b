"""The MD benchmarks of Table 4: which are there, and running those that are not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanmlip.experiment.atomic import read_json
from kanmlip.reproduction.spec import Benchmarks

# Table 4 is Allegro with Gaussian KANs by placement.
MODEL, BASES = "allegro", "gaussian"
SMOKE = "smoke"


@dataclass(frozen=True)
class MDBenchmark:
    """The cells of a budget; of each all placements in turns.

    Attributes:
        steps: Atoms → steps of molecular dynamics.
        rows: The printed rows.
        smoke: Whether it only shows that everything works. Its times mean nothing, so that they go to a folder of their own.
        folder: Where the result goes.
    """

    steps: Mapping[int, int]
    rows: tuple[str, ...]
    smoke: bool
    folder: Path

    def missing(self) -> list[int]:
        """Cells without a result of at least so many steps."""
        done = {case["atoms"]: case["steps_asked"] for case in self._cases()}
        return [atoms for atoms, steps in sorted(self.steps.items()) if done.get(atoms, 0) < steps]

    def command(self) -> list[str]:
        """What runs all cells: one file a command, which would lack the others if only some were measured."""
        cells = sorted(self.steps.items())
        sizes, steps = (",".join(str(cell[column]) for cell in cells) for column in (0, 1))
        arguments = ["--sizes", sizes, "--steps", steps, "--models", MODEL, "--bases", BASES, "--output", str(self.folder)]
        less = ["--size", "smoke", "--rounds", "2", "--match", "widths"] if self.smoke else []
        return [sys.executable, "-m", "kanmlip.cli.bench", "md", *arguments, *less]

    def run(self) -> bool:
        """Run unless nothing is missing, and pass on what is printed; says whether everything is there then."""
        if self.missing():
            print(f"MD benchmarks: {', '.join(map(str, self.missing()))} atoms", flush=True)
            subprocess.run(self.command(), check=False)
        return not self.missing()

    def _cases(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob("md_*.json")):
            content = read_json(path)
            for case in content.get("cases", []) if isinstance(content, dict) else []:
                if {"model", "atoms", "steps_asked"} <= case.keys() and case["model"] == MODEL:
                    yield case


def md_benchmark(spec: Benchmarks, budget: str, results: Path) -> MDBenchmark:
    """The benchmarks of a budget.

    Args:
        spec: From conf/reproduction.yaml.
        budget: Of the reproduction.
        results: Results root.
    """
    steps = next((steps for name, steps in spec.steps.items() if name == budget), {})
    smoke = budget == SMOKE
    return MDBenchmark(steps, spec.rows, smoke, results / "benchmarks" / SMOKE if smoke else results / "benchmarks")
