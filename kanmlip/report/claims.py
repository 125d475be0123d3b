"""The typed form of the paper's claims in conf/reproduction.yaml: sentences, each with the comparisons that test it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kanmlip.report.matching import Match
from kanmlip.schema import Schema

Kind = Literal["error", "gain", "updates", "time", "step", "md_step", "md_memory"]
RUN_KINDS = frozenset({"error", "gain", "updates", "time"})


class Part(Schema):
    """One comparison of two rows of a table.

    Attributes:
        label: What is compared, in words.
        kind: ``error`` ratio of a column; ``gain`` relative gain (1 − ratio) in ``table`` minus that in ``against``; ``updates`` ratio of
            the updates until the monitored validation error is as low as the worst of all compared runs at its best; ``time`` the same in
            seconds, updates times the cost of a training step as benchmarked; ``step`` that cost alone; ``md_step`` and ``md_memory``
            of molecular dynamics (Table 4).
        table: Whose rows, runs and printed values are compared; Table 4 for molecular dynamics.
        column: The column that is compared, or that holds what the paper prints of it (its time); empty where it prints nothing.
        against: For ``gain``, the table whose gain is subtracted.
        of: The row with KANs.
        over: The row that it is held against.
        direction: What the claim says: a ratio (or difference) ``lower`` or ``higher`` than ``threshold``, or ``about`` the paper's.
        threshold: 1 for ratios, 0 for differences unless the claim allows more.
        tolerance: Of ``about``, relative to the paper's effect; ours, since the paper gives none.
        counts: Whether the claim's verdict depends on it; else it is printed beside it.
    """

    label: str
    kind: Kind
    table: str
    column: str = ""
    against: str | None = None
    of: Match
    over: Match
    direction: Literal["lower", "higher", "about"]
    threshold: float | None = None
    tolerance: float = Field(0.0, ge=0)
    counts: bool = True

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "gain") != (self.against is not None):
            raise ValueError(f"part '{self.label}': exactly the kind 'gain' has 'against'")
        if self.direction == "about" and not (self.tolerance and self.column):
            raise ValueError(f"part '{self.label}': direction 'about' needs a tolerance and a column that the paper prints")
        if self.kind in {"error", "gain"} and not self.column:
            raise ValueError(f"part '{self.label}': kind '{self.kind}' needs a column")
        return self

    @property
    def is_difference(self) -> bool:
        """Whether the effect is a difference (no effect is 0) and not a ratio (no effect is 1)."""
        return self.kind in {"gain", "md_memory"}

    @property
    def limit(self) -> float:
        """What the effect is held against, unless by ``about``."""
        return self.threshold if self.threshold is not None else 0.0 if self.is_difference else 1.0


class Claim(Schema):
    """A sentence of the paper and its test: supported if every part that counts is, refuted if one of them is."""

    key: str
    text: str
    parts: tuple[Part, ...] = Field(min_length=1)
    remarks: tuple[str, ...] = ()
