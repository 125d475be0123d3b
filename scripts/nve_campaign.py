"""NVE with every model, placement and basis, trained on the embedded silver set: energy drift, and jumps at the cutoff, beside the MLP's.

    KANMLIP_RESULTS=FOLDER python scripts/nve_campaign.py [--processes N] [--only TEXT] [--list]

Each case is trained by kanmlip-train, simulated by kanmlip-md and written to benchmarks/nve.json and nve.md in the results folder as soon
as it is done. The same command again skips what is there and goes on with what was interrupted. The most telling cases come first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import read_json, write_json, write_text
from kanmlip.experiment.folders import conf_dir, results_root
from kanmlip.physics.nve_table import judged, nve_markdown

MODELS = ("allegro", "nequip", "mace")
LONG_BASES = ("gaussian", "bspline")  # of Allegro's output and all, which are simulated for longer
INTERRUPTED = 130
COMMAND = "python scripts/nve_campaign.py"
OUTCOMES = {0: "done", 1: "unstable", INTERRUPTED: "interrupted"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One potential; ``basis`` is none for the MLP."""

    model: str
    placement: str
    basis: str | None
    long: bool

    def __str__(self) -> str:
        return "-".join((self.model, self.placement, self.basis or "mlp"))


@dataclass(frozen=True)
class Settings:
    """What is trained and simulated; rows of other settings are computed again.

    Attributes:
        size: Budget whose model sizes are taken.
        epochs: Of training.
        frames: Of the training set.
        seed: Of training.
        temperature_K: Of the first velocities and the equilibration.
        equilibration: Langevin steps of 1 fs before.
        long_steps: NVE steps of 1 fs for Allegro with MLPs and with the bases ``LONG_BASES`` in output and all.
        short_steps: For every other case.
    """

    size: str = "smoke"
    epochs: int = 60
    frames: int = 64
    seed: int = 1
    temperature_K: float = 600.0  # noqa: N815 - the unit's own case
    equilibration: int = 500
    long_steps: int = 20_000
    short_steps: int = 2_000

    def of(self, case: Case) -> Row:
        """What decides a row."""
        return {**asdict(self), "steps": self.long_steps if case.long else self.short_steps}

    def overrides(self, case: Case) -> list[str]:
        """Arguments of kanmlip-train."""
        basis = [] if case.basis is None else [f"basis={case.basis}"]
        training = [f"budget={self.size}", f"trainer.max_epochs={self.epochs}", f"dataset.n_train={self.frames}", f"seed={self.seed}"]
        return [f"model={case.model}", "dataset=toy", f"placement={case.placement}", *basis, *training]


def all_cases() -> list[Case]:
    """Allegro's long runs, the MLPs of the other models, then everything else."""
    from kanmlip.experiment.configure import compose_run

    bases = sorted(path.stem for path in (conf_dir() / "basis").glob("*.yaml"))
    first = [Case("allegro", "none", None, True), *(Case("allegro", p, basis, True) for p in ("output", "all") for basis in LONG_BASES)]
    cases = [*first, *(Case(model, "none", None, False) for model in MODELS[1:])]
    for model in MODELS:
        placements = compose_run([f"model={model}", "dataset=toy", "budget=smoke"]).model.placements
        new = [Case(model, placement, basis, False) for placement in placements if placement != "none" for basis in bases]
        there = {str(case) for case in cases}
        cases += [case for case in new if str(case) not in there]
    return cases


def compute(case: Case, settings: Settings) -> Row | None:
    """Train, simulate and examine one case; none if that was interrupted."""
    import torch

    torch.set_num_threads(1)
    row: Row = {"case": str(case), **asdict(case), "settings": settings.of(case), "status": "failed"}
    try:
        folder = trained(case, settings)
        return None if folder is None else measured(case, settings, folder, row)
    except Exception as error:  # one case that fails, for whatever reason, leaves the others alone
        traceback.print_exc()
        return {**row, "reason": f"{type(error).__name__}: {error}"}


def trained(case: Case, settings: Settings) -> Path | None:
    """The finished run of a case; none if training was interrupted.

    Raises:
        ConfigError: If training failed.
    """
    from kanmlip.data.root import data_root
    from kanmlip.experiment.configure import compose_run
    from kanmlip.experiment.folders import run_folder
    from kanmlip.experiment.identity import run_id
    from kanmlip.experiment.status import true_status

    config = compose_run(settings.overrides(case))
    folder = run_folder(run_id(config, config.dataset.fingerprint(data_root())))
    status = true_status(folder)
    if status is not None and status.status == "done":
        return folder
    train = [sys.executable, "-c", "from kanmlip.cli.train import main; main()", *settings.overrides(case)]
    code = subprocess.run([*train, "trainer.device=cpu", "trainer.progress_bar=false"], check=False).returncode
    if code == INTERRUPTED:
        return None
    if code != 0:
        raise ConfigError(f"kanmlip-train ended with exit code {code} for {case}; see {folder}/status.json")
    return folder


def measured(case: Case, settings: Settings, folder: Path, row: Row) -> Row | None:
    """Simulate a trained run and examine it at the cutoff; none if the simulation was interrupted."""
    import numpy as np

    from kanmlip.cli.md import main as simulate
    from kanmlip.dynamics.files import read_thermo
    from kanmlip.dynamics.roughness import describe_roughness
    from kanmlip.dynamics.start import starting_structure
    from kanmlip.experiment.environment import git_state
    from kanmlip.export.ase import KanmlipCalculator
    from kanmlip.export.loading import load_potential
    from kanmlip.physics.cutoff import smoothness_at_cutoff

    run = load_potential(folder, dtype="float64")
    rough = describe_roughness(run.config)
    here, steps = folder / "md" / "nve_campaign", settings.of(case)["steps"]
    arguments = ["--ensemble", "nve", "--temperature", f"{settings.temperature_K:g}", "--equilibration", str(settings.equilibration)]
    arguments += ["--steps", str(steps), "--no-pictures", "--output", str(here), *(["--force-rough"] if rough else [])]
    code = simulate([str(folder), *arguments])
    if code == INTERRUPTED:
        return None
    if code not in OUTCOMES:
        raise ConfigError(f"kanmlip-md {folder.name} {' '.join(arguments)} ended with exit code {code}; its last line says why")
    start = starting_structure(run.config)
    jumps = smoothness_at_cutoff(start, KanmlipCalculator(run), run.config.model.cutoff, run.species).values
    metrics, environment = read_json(folder / "metrics.json") or {}, read_json(folder / "environment.json") or {}
    summary, energy = read_json(here / "summary.json"), read_thermo(here / "thermo.csv")["conserved_eV"]
    return row | {
        "status": OUTCOMES[code],
        "reason": summary["reason"],
        "run": folder.name,
        "rough": rough,
        "force_mae_eV_per_A": metrics.get("val/force_mae_eV_per_A"),
        "duration_ps": summary["duration_ps"],
        "temperature_K": summary["temperature_K"],
        "drift": summary["drift"],
        "energy_span_meV_per_atom": 1000 * float(np.ptp(energy)) / len(start) if len(energy) else None,
        "largest_jump_eV": jumps["largest_jump_eV"],
        "trained_at": environment.get("commit"),
        "commit": git_state()[0],
        "changed": git_state()[1],
        "hardware": environment.get("hardware"),
        "versions": {name: (environment.get("versions") or {}).get(name) for name in ("python", "torch", "ase")},
    }


class Results:
    """nve.json and nve.md, replaced after every row."""

    def __init__(self, folder: Path, settings: Settings, cases: Sequence[Case]) -> None:
        self.folder, self.settings, self.order = folder, settings, [str(case) for case in cases]
        wanted = {str(case): settings.of(case) for case in cases}
        stored = (read_json(folder / "nve.json") or {}).get("rows", [])
        self.rows: list[Row] = [
            row for row in stored if row["settings"] == wanted.get(row["case"]) and row["status"] in ("done", "unstable")
        ]

    def __contains__(self, case: Case) -> bool:
        return any(row["case"] == str(case) for row in self.rows)

    def add(self, row: Row) -> None:
        """Keep a row and write the files."""
        self.rows = sorted((*self.rows, row), key=lambda row: self.order.index(row["case"]))
        self.write()

    def write(self) -> None:
        """Write the files from the rows there are."""
        content = [{**row, "bars": judged(row, self.rows)} for row in self.rows]
        write_json(self.folder / "nve.json", {"settings": asdict(self.settings), "rows": content})
        write_text(self.folder / "nve.md", nve_markdown(self.rows, asdict(self.settings), len(self.order), COMMAND))


def computed(cases: Sequence[Case], settings: Settings, processes: int) -> Iterator[Row | None]:
    """Rows as they are done; with one process in this one, so that what stops it stops the simulation."""
    if processes == 1:
        yield from (compute(case, settings) for case in cases)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(compute, case, settings) for case in cases]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--processes", type=int, default=1, metavar="N", help="cases at a time (default %(default)s)")
    top.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this in it")
    top.add_argument("--list", action="store_true", help="print the cases and whether they are done, and end")
    return top


def main(arguments: list[str] | None = None, settings: Settings | None = None) -> int:
    """Run what is missing; 0 if every case has a row afterwards, 1 if one failed, 2 for wrong input, 130 if interrupted."""
    options, settings = parser().parse_args(arguments), settings or Settings()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = all_cases()
    chosen = [case for case in cases if options.only in str(case)]
    if options.processes < 1 or not chosen:
        wrong = (
            f"--processes={options.processes} must be 1 or more" if chosen else f"--only={options.only} names none of the cases in --list"
        )
        sys.stderr.write(f"nve_campaign: {wrong}\n")
        return 2
    results = Results(results_root() / "benchmarks", settings, cases)
    if options.list:
        print("\n".join(f"{case}{'  done' if case in results else ''}" for case in chosen))
        return 0
    if results.rows:
        results.write()  # by the code of today, also where nothing is left to do
    failed = False
    for row in computed([case for case in chosen if case not in results], settings, options.processes):
        if row is None:
            sys.stderr.write("nve_campaign: interrupted; the same command goes on\n")
            return INTERRUPTED
        results.add(row)
        failed = failed or row["status"] == "failed"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
