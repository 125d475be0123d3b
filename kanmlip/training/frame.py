"""What frames the training of a run: preparing it, and evaluating what was trained. ``trainer.max_minutes`` is about all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kanmlip.data.batching import Sizes
from kanmlip.data.graph import Graph


@dataclass(frozen=True)
class Frame:
    """What frames the training of a run.

    Attributes:
        began: When the run began, by ``time.perf_counter``; none if what came before training is not to be counted.
        evaluation: What evaluating the trained model takes, as a multiple of a validation.
    """

    began: float | None = None
    evaluation: float = 0.0

    @classmethod
    def of(cls, began: float | None, graphs: Mapping[str, Sequence[Graph]], devices: int) -> Frame:
        """Of a run that evaluates all splits in one process, where validation shares its split among ``devices``."""
        work = {name: int(Sizes.of(part).work.sum()) for name, part in graphs.items() if part}
        return cls(began, devices * sum(work.values()) / work["val"])


NO_FRAME = Frame()
