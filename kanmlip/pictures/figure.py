"""Figures without a display and without global state, and how they are written: PNG to look at, SVG to print."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kanmlip.errors import MissingDependencyError
from kanmlip.experiment.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

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


def styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function that draws with kanmlip's style and leaves matplotlib's settings as they are.

    Raises:
        MissingDependencyError: When called, if matplotlib is not installed.
    """

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        require_matplotlib()
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches; to be called in a function that is :func:`styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<folder>/<name>.png`` and ``.svg``; whole or not at all, and the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    FigureCanvasAgg(figure)
    write_bytes(paths[0], lambda file: figure.savefig(file, format="png", dpi=150))
    figure.set_layout_engine("none")  # what was laid out once stays, which takes half the time
    write_bytes(paths[1], lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
    return paths
