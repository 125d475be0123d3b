"""Figures without a display and without global state, and how they are written: PNG to look at, SVG to print."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people who do not see red and green apart can tell from each other.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#BBBBBB"
STYLE = {"font.size": 8.0, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": "kanmlip"}


def require_matplotlib() -> None:
    """Check that pictures can be made.

    Raises:
        MissingDependencyError: With the command that installs matplotlib.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("pictures need matplotlib, which is not installed; run: pip install 'kanmlip[show]'")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<folder>/<name>.png`` and ``.svg``; the same figure gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
