"""Which runs a row of a table is made of, as conf/reproduction.yaml says it."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from kanmlip.schema import Schema


class Match(Schema):
    """Which runs belong to a row; with ``seed``, the one run of that seed.

    ``basis`` is the record's label: of a control, which has no basis, a word such as ``linear`` or ``mlp_parameters_gaussian``.
    """

    model: str
    placement: str
    basis: str | None = None
    seed: int | None = None

    @model_validator(mode="after")
    def _basis_fits_placement(self) -> Self:
        if (self.placement == "none") != (self.basis is None):
            raise ValueError(f"placement={self.placement} with basis={self.basis}: exactly the placement 'none' has no basis")
        return self
