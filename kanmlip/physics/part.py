"""What every part of the physics report is: numbers with units, curves for a picture, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """The outcome of one check.

    Attributes:
        values: Key with its unit → number.
        curves: Name → [P] or [P, K], for the picture; in the JSON report too.
        missing: Why there are no values; none where there are.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    missing: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready form."""
        if self.missing is not None:
            return {"missing": self.missing}
        return {"values": dict(self.values), "curves": {name: curve.tolist() for name, curve in self.curves.items()}}
