"""The typed settings of a placement: which MLPs are replaced, and what takes their place."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kanmlip.schema import Schema


class HeadConfig(Schema):
    """What stands in place of an MLP: a KAN, or a control that shares everything with that KAN but its functions.

    Controls (:class:`kanmlip.placement.dense.DenseHead`) have the wrapper, the input scale, the start and f(0) = 0 of the KAN.

    Attributes:
        kind: ``kan``; ``mlp``, an MLP as large or as slow as the KAN of the chosen basis would be there (``match``); ``linear``, one
            linear map.
        zero_preserving: Subtract the head's value at zero input, so that f(0) = 0 (needed for smooth energies at the cutoff).
        norm: ``scale`` divides by a root mean square measured once on training data and frozen; ``layer`` is FastKAN's
            LayerNorm (jumps at the cutoff, kept for comparison); ``none`` leaves the input as it is.
        base: Add the SiLU base branch to the basis expansion.
        match: ``widths`` gives the head the replaced MLP's widths. ``parameters`` makes the hidden layers of a KAN narrower until it
            has no more parameters than the MLP (:func:`kanmlip.placement.widths.matched_widths`), and those of an ``mlp`` wider
            as long as it has no more than the KAN of these widths. ``time`` makes an ``mlp`` wider as long as it has no more than
            ``cost_ratio`` times the multiplications of the MLP of these widths.
        cost_ratio: With ``match=time``, and only there: at which ratio of multiplications an MLP takes as long as the KAN. A measured
            number, part of the settings so that the width is the same on every machine (``scripts/equal_time.py``).
        update_grid: Before training, put the grid of splines where the head's inputs are on the calibration frames, once and
            without a change of its function there (:func:`kanmlip.kan.grid_update.update_grid`).
    """

    kind: Literal["kan", "mlp", "linear"] = "kan"
    zero_preserving: bool = True
    norm: Literal["scale", "layer", "none"] = "scale"
    base: bool = True
    match: Literal["widths", "parameters", "time"] = "widths"
    cost_ratio: float | None = Field(None, ge=1)
    update_grid: bool = False

    @model_validator(mode="after")
    def _grids_have_weights(self) -> HeadConfig:
        if self.update_grid and self.match == "parameters":
            raise ValueError("update_grid=true changes the number of weights, which match=parameters fixes; choose one of them")
        return self

    @model_validator(mode="after")
    def _matches_what_it_can(self) -> HeadConfig:
        if self.match == "time" and self.kind != "mlp":
            raise ValueError(f"match=time makes an MLP as slow as a KAN and needs kind=mlp, not kind={self.kind}; or use match=widths")
        if self.kind == "linear" and self.match != "widths":
            raise ValueError(f"kind=linear has no hidden layer whose width match={self.match} could set; use match=widths")
        if (self.cost_ratio is None) == (self.match == "time"):
            raise ValueError(
                f"match={self.match} with cost_ratio={self.cost_ratio}: match=time needs a cost_ratio of 1 or more, others none; "
                f"the presets table3_control_time and the like have measured ones"
            )
        if self.kind != "kan" and (self.update_grid or not self.zero_preserving or not self.base):
            raise ValueError(f"kind={self.kind} has no basis functions: leave update_grid=false, zero_preserving=true and base=true")
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


def head_name(head: HeadConfig, basis: str) -> str:
    """The word that stands for a head in run ids and records: the basis of a KAN, else a control's own, which no basis has.

    ``linear``, ``mlp_widths``, ``mlp_parameters_<basis>`` and ``mlp_time_<basis>``: of the last two the basis is that of the KAN
    they are compared with.
    """
    if head.kind == "kan":
        return basis
    if head.kind == "linear":
        return "linear"
    return f"mlp_{head.match}" if head.match == "widths" else f"mlp_{head.match}_{basis}"
