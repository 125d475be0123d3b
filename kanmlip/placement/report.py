"""What a placement did: every replaced module with its widths and parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Replacement:
    """One replaced module.

    Attributes:
        path: Path in the upstream model.
        group: The model's group that it belongs to.
        kind: Class that stood there.
        widths: Widths of the KAN, or of the control in its place.
        output_shape: Shape of the module's output on the calibration batch.
        parameters_before: Trainable parameters of the replaced module.
        parameters_after: Trainable parameters of what stands there now.
    """

    path: str
    group: str
    kind: str
    widths: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters_before: int
    parameters_after: int


@dataclass(frozen=True)
class PlacementReport:
    """All replacements of one placement.

    Attributes:
        placement: Its name.
        basis: Name of the KANs' basis, or of a control (:func:`kanmlip.placement.config.head_name`); none without either.
        head: ``kan``, ``mlp`` or ``linear``; none where nothing was replaced.
        replaced: In the order in which the model calls them.
        parameters_total: Trainable parameters of the whole model after the swap.
        parameters_head: Those of the modules that the placement names (of the output group for ``none``).
    """

    placement: str
    basis: str | None
    head: str | None
    replaced: tuple[Replacement, ...]
    parameters_total: int
    parameters_head: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, as written to ``placement.json``."""
        return asdict(self)

    def __str__(self) -> str:
        """A short table for the terminal."""
        if not self.replaced:
            return f"placement none: no module replaced, {self.parameters_total:,} parameters"
        rows = [
            f"  {r.path:<44} {r.kind:<24} {'-'.join(map(str, r.widths)):>16} {r.parameters_before:>9,} -> {r.parameters_after:,}"
            for r in self.replaced
        ]
        head = f"placement {self.placement}: {len(rows)} module(s) replaced by {self._described()}, {self.parameters_total:,} parameters"
        return "\n".join([head, *rows])

    def _described(self) -> str:
        return f"{self.basis} KANs" if self.head == "kan" else f"the control {self.basis}"
