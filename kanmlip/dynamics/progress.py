"""What a user sees of a simulation: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from ase import Atoms

SECONDS_BETWEEN_LINES = 10.0


class StepProgress:
    """A progress bar over steps.

    Args:
        total: Steps in all, equilibration included.
        done: Steps already behind a resumed simulation.
        enabled: Show anything at all.
    """

    def __init__(self, total: int, done: int, enabled: bool) -> None:
        self.enabled = enabled
        self.bar = None
        self.last_line = time.monotonic()
        if enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> StepProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, done: int, step: int, temperature_K: float, atoms: Atoms) -> None:  # noqa: N803 - the unit's own case
        """Show where the simulation is: ``done`` steps in all, ``step`` counted from the end of the equilibration."""
        if not self.enabled:
            return
        text = f"{temperature_K:.0f} K  {atoms.get_potential_energy():.4f} eV" + ("  (equilibration)" if step < 0 else "")
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            sys.stderr.write(f"step {step}  {text}\n")
            sys.stderr.flush()
