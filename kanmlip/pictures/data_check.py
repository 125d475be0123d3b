"""What ``kanmlip-data check`` saw: energies frame by frame, sizes of forces, and energy differences against the work done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kanmlip.data.inspection import Inspection
from kanmlip.pictures.figure import COLOURS, GREY, new_figure, save, styled

if TYPE_CHECKING:
    from kanmlip.data.work import Balance

BINS = 60


@styled
def draw_check(reports: Mapping[Path, Inspection], folder: Path) -> list[Path]:
    """Write data_check.png and data_check.svg, a row a file.

    Args:
        reports: From :func:`kanmlip.data.inspection.inspect`.
        folder: Where to.
    """
    figure = new_figure(7.8, 2.2 * len(reports))
    grid = figure.subplots(len(reports), 3, squeeze=False)
    for row, (path, report) in zip(grid, reports.items(), strict=True):
        _energies(row[0], report)
        row[0].set_ylabel(f"{path.name}\nenergy, eV/atom")
        _forces(row[1], report)
        _work(row[2], report.work)
    return save(figure, folder, "data_check")


def _energies(axes: Any, report: Inspection) -> None:
    axes.plot(list(report.energies), list(report.energies.values()), ".", color=COLOURS[0], markersize=2.5)
    axes.set_xlabel("frame")


def _forces(axes: Any, report: Inspection) -> None:
    sizes = report.forces[np.isfinite(report.forces) & (report.forces > 0)]
    axes.set_xlabel("force on an atom, eV/Å")
    axes.set_ylabel("atoms")
    if len(sizes):
        low, high = np.log10(sizes.min()), np.log10(sizes.max())
        axes.hist(sizes, bins=np.logspace(low, max(high, low + 0.1), BINS), color=COLOURS[0])
        axes.set_xscale("log")
        axes.set_yscale("log")


def _work(axes: Any, work: Balance | None) -> None:
    axes.set_xlabel("work of forces and stress, eV")
    axes.set_ylabel("energy difference, eV")
    if work is None:
        axes.text(0.5, 0.5, "no frames that are alike", ha="center", va="center", transform=axes.transAxes, color="0.4")
        return
    done = work.force_work.copy()
    if work.stress_work is not None:
        stress, strain = work.stress_work
        done += (stress * strain).sum(1)
    ends = np.array([work.energy.min(), work.energy.max()])
    axes.plot(ends, ends, color=GREY, linewidth=1.0)
    axes.plot(done, work.energy, ".", color=COLOURS[1], markersize=3)
