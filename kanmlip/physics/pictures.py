"""The curves of a physics report, the run's and the MLP's in the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kanmlip.physics.examination import Examination
from kanmlip.physics.phonons import PATH
from kanmlip.pictures.figure import COLOURS, new_figure, save, styled

WHY = {"fontsize": 7, "color": "0.4", "ha": "center", "va": "center", "wrap": True}


@styled
def draw_physics(examinations: Sequence[Examination], folder: Path) -> list[Path]:
    """Write physics.png and physics.svg: E(V), phonon band, total energy of the NVE run, and dimers at the cutoff."""
    figure = new_figure(8.0, 6.0)
    panels = figure.subplots(2, 2)
    drawings = {"equation_of_state": _volume, "phonons": _band, "nve": _energy, "cutoff": _dimers}
    for axes, (part, draw) in zip(panels.ravel(), drawings.items(), strict=True):
        shown = [(examined, colour) for examined, colour in zip(examinations, COLOURS, strict=False) if examined.parts[part].curves]
        for examined, colour in shown:
            draw(axes, examined, colour)
        if shown:
            axes.legend(fontsize=6)
        else:
            axes.text(0.5, 0.5, examinations[0].parts[part].missing or "", transform=axes.transAxes, **WHY)
    return save(figure, folder, "physics")


def _volume(axes: Any, examined: Examination, colour: str) -> None:
    curves = examined.parts["equation_of_state"].curves
    axes.plot(curves["volume_A3_per_atom"], curves["energy_eV_per_atom"], ".-", color=colour, linewidth=1, label=examined.head)
    axes.set(xlabel="volume (Å³/atom)", ylabel="energy (eV/atom)")


def _band(axes: Any, examined: Examination, colour: str) -> None:
    curves = examined.parts["phonons"].curves
    for branch in range(curves["frequency_THz"].shape[1]):
        label = examined.head if branch == 0 else None
        axes.plot(curves["distance"] / curves["distance"][-1], curves["frequency_THz"][:, branch], color=colour, linewidth=1, label=label)
    # In units of the path's length: the two potentials have two lattice constants.
    corners = curves["corners"] / curves["corners"][-1]
    for place in corners:
        axes.axvline(place, color="0.8", linewidth=0.6, zorder=0)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.set_xticks(corners, PATH)
    axes.set(ylabel="frequency (THz)", xlim=(0, 1))


def _energy(axes: Any, examined: Examination, colour: str) -> None:
    curves = examined.parts["nve"].curves
    axes.plot(curves["time_ps"], curves["energy_meV_per_atom"], color=colour, linewidth=0.8, label=examined.head)
    axes.set(xlabel="t (ps)", ylabel="ΔE (meV/atom)")


def _dimers(axes: Any, examined: Examination, colour: str) -> None:
    curves = examined.parts["cutoff"].curves
    pairs = [name for name in curves if name.startswith("energy_eV ")]
    for name, style in zip(pairs, ("-", "--", ":", "-.") * len(pairs), strict=False):
        label = f"{examined.head}, {name.removeprefix('energy_eV ')}"
        axes.plot(curves["r_A"], 1000 * curves[name], style, color=colour, linewidth=1, label=label)
    axes.set(xlabel="r (Å), dimer at the cutoff", ylabel="E − E(∞) (meV)")
