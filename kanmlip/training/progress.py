"""What a user sees of a training run: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A progress bar over epochs.

    Args:
        total: Epochs in all.
        done: Epochs already behind a resumed run.
        enabled: Show anything at all.
    """

    def __init__(self, total: int, done: int, enabled: bool) -> None:
        self.total = total
        self.done = done
        self.enabled = enabled
        self.bar = None
        self.last_line = 0.0
        if enabled and sys.stdout.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="epoch", dynamic_ncols=True, file=sys.stdout)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, row: Mapping[str, float | int], monitor: str) -> None:
        """Show an epoch's row of the history."""
        self.done += 1
        text = f"loss {row['train/loss']:.3g}  {monitor} {row[monitor]:.4g}"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif self.enabled and (time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or self.done == self.total):
            self.last_line = time.monotonic()
            print(f"epoch {self.done}/{self.total}  {text}", flush=True)
