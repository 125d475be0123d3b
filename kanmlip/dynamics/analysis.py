"""What a simulation says: drift, temperature and radial distribution from its files, as JSON, CSV and pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanmlip.dynamics.drift import Drift, fit_drift
from kanmlip.dynamics.files import SimulationFiles, read_thermo
from kanmlip.dynamics.rdf import RadialDistribution, radial_distribution
from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import write_json
from kanmlip.pictures.figure import COLOURS, new_figure, save, styled

# Frames that g(r) is averaged over; more change nothing that can be seen.
MOST_FRAMES = 500


def analyse(folder: Path, pictures: bool = True) -> dict[str, Any]:
    """Write summary.json, rdf.csv and, if asked for, rdf and energy pictures from what a simulation has left so far.

    Args:
        folder: Of the simulation.
        pictures: Make PNG and SVG too, which needs matplotlib.

    Returns:
        The content of summary.json.

    Raises:
        ConfigError: If there is no simulation.
        MissingDependencyError: If pictures are wanted and matplotlib is not installed.
    """
    files = SimulationFiles(folder)
    description = files.description_now()
    if not description:
        raise ConfigError(f"{folder} holds no simulation; run kanmlip-md first")
    thermo = read_thermo(files.thermo) if files.thermo.is_file() else {}
    rows = len(thermo.get("step", ()))
    ensemble, number = description["settings"]["ensemble"], int(description["num_atoms"])
    drift = fit_drift(thermo["time_ps"], thermo["conserved_eV"], number) if rows and ensemble != "langevin" else None
    summary: dict[str, Any] = {
        "status": description["status"],
        "reason": description.get("reason"),
        "last_step": description["step"],
        "ensemble": ensemble,
        "num_atoms": number,
        "duration_ps": float(np.ptp(thermo["time_ps"])) if rows else 0.0,
        "temperature_K": float(thermo["temperature_K"].mean()) if rows else None,
        "temperature_deviation_K": float(thermo["temperature_K"].std()) if rows else None,
        "largest_force_eV_per_A": float(thermo["max_force_eV_per_A"].max()) if rows else None,
        "drift": asdict(drift) if drift else None,
    }
    rdf = _rdf(files)
    if isinstance(rdf, RadialDistribution):
        rdf.write_csv(folder / "rdf.csv")
        summary["rdf_frames"] = rdf.frames
    else:
        summary["rdf_missing"] = rdf
    if pictures and rows:
        draw_energy(thermo, drift, number, folder)
        if isinstance(rdf, RadialDistribution):
            draw_rdf(rdf, folder)
    write_json(folder / "summary.json", summary)
    return summary


def _rdf(files: SimulationFiles) -> RadialDistribution | str:
    from ase.io import read

    if not files.trajectory.is_file() or files.trajectory.stat().st_size == 0:
        return "there is no frame yet"
    frames = read(files.trajectory, ":")
    try:
        return radial_distribution(frames[:: -(-len(frames) // MOST_FRAMES)])
    except ConfigError as error:
        return str(error)


@styled
def draw_rdf(rdf: RadialDistribution, folder: Path) -> list[Path]:
    """Write rdf.png and rdf.svg."""
    figure = new_figure(4.0, 2.8)
    axes = figure.add_subplot()
    for (pair, values), colour in zip(rdf.g.items(), COLOURS * len(rdf.g), strict=False):
        axes.plot(rdf.distance, values, color=colour, linewidth=1.2, label=pair)
    axes.axhline(1, color="0.7", linewidth=0.6)
    axes.set(xlabel="r (Å)", ylabel="g(r)", xlim=(0, rdf.distance[-1]), ylim=(0, None))
    axes.legend(title=f"{rdf.frames} frames")
    return save(figure, folder, "rdf")


@styled
def draw_energy(thermo: dict[str, NDArray[np.float64]], drift: Drift | None, number: int, folder: Path) -> list[Path]:
    """Write energy.png and energy.svg: the conserved energy with its line where there is one, and the temperature."""
    figure = new_figure(4.6, 3.6)
    upper, lower = figure.subplots(2, sharex=True)
    time, energy = thermo["time_ps"], thermo["conserved_eV"]
    label = "conserved energy"
    if not np.isfinite(energy).all():
        energy, label = thermo["total_eV"], "total energy"
    values = 1000 * (energy - energy[0]) / number
    upper.plot(time, values, color=COLOURS[0], linewidth=0.8, label=label)
    if drift is not None:
        middle = values.mean() - drift.slope_meV_per_atom_ps * time.mean()
        upper.plot(time, middle + drift.slope_meV_per_atom_ps * time, color=COLOURS[1], linewidth=1.2, label=str(drift))
    upper.set_ylabel("ΔE (meV/atom)")
    upper.legend()
    lower.plot(time, thermo["temperature_K"], color=COLOURS[2], linewidth=0.8)
    lower.set(xlabel="t (ps)", ylabel="T (K)")
    return save(figure, folder, "energy")
