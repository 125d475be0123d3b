"""The typed settings of a placement: which MLPs become KANs, and what a KAN head looks like."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from kanmlip.schema import Schema


class HeadConfig(Schema):
    """How a KAN head treats its input and its value at zero.

    Attributes:
        zero_preserving: Subtract the head's value at zero input, so that f(0) = 0 (needed for smooth energies at the cutoff).
        norm: ``scale`` divides by a root mean square measured once on training data and frozen; ``layer`` is FastKAN's
            LayerNorm (jumps at the cutoff, kept for comparison); ``none`` leaves the input as it is.
        base: Add the SiLU base branch to the basis expansion.
        match: ``widths`` gives the KAN the replaced MLP's widths; ``parameters`` makes its hidden layers narrower until it has
            no more parameters than the MLP (:func:`kanmlip.placement.widths.matched_widths`).
        update_grid: Before training, put the grid of splines where the head's inputs are on the calibration frames, once and
            without a change of its function there (:func:`kanmlip.kan.grid_update.update_grid`).
    """

    zero_preserving: bool = True
    norm: Literal["scale", "layer", "none"] = "scale"
    base: bool = True
    match: Literal["widths", "parameters"] = "widths"
    update_grid: bool = False

    @model_validator(mode="after")
    def _grids_have_weights(self) -> HeadConfig:
        if self.update_grid and self.match == "parameters":
            raise ValueError("update_grid=true changes the number of weights, which match=parameters fixes; choose one of them")
        return self


class PlacementConfig(Schema):
    """Which MLPs of the upstream model are replaced.

    Attributes:
        name: Placement; each model lists those it has.
        mace_style: ``residual`` is the authors' KAN(h) + Linear(x) with widths d, d/2, d/4, 1; ``replace`` a pure swap.
        head: The head's settings.
    """

    name: str
    mace_style: Literal["residual", "replace"] = "residual"
    head: HeadConfig = HeadConfig()
