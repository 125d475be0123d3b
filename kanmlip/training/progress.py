"""What a user sees of a training run: a bar on a terminal, a line now and then in a log, and a word if it will take too long."""

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
        minutes: What the whole run is meant to take at most; said after two epochs if it will be more. None if nothing is meant.
    """

    def __init__(self, total: int, done: int, enabled: bool, minutes: float | None = None) -> None:
        self.total = total
        self.done = done
        self.enabled = enabled
        self.minutes = minutes
        self.first_end: float | None = None
        self.forecast_due = enabled and minutes is not None
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
        if self.forecast_due:
            self._forecast(float(row["time/train_s"]))

    def _forecast(self, spent_s: float) -> None:
        """Say that the run will take longer than meant, once, when an epoch without the first one's delays has gone by."""
        now = time.monotonic()
        if self.first_end is None:
            self.first_end = now
            return
        self.forecast_due = False
        text = too_long(self.total, self.done, spent_s, now - self.first_end, self.minutes or 0.0)
        if text is not None:
            (self.bar.write if self.bar is not None else print)(text)


def too_long(total: int, done: int, spent_s: float, epoch_s: float, minutes: float) -> str | None:
    """What to say of a run that will take more than it is meant to; none if it will not.

    Args:
        total: Epochs in all.
        done: Epochs behind it.
        spent_s: Seconds of training behind it.
        epoch_s: Seconds of an epoch to come.
        minutes: What it is meant to take at most.
    """
    whole_s = spent_s + (total - done) * epoch_s
    if whole_s <= 60 * minutes:
        return None
    fitting = done + max(0, int((60 * minutes - spent_s) / epoch_s))
    return (
        f"at this pace training takes {whole_s / 60:.0f} minutes; a run of this budget is meant to take at most {minutes:g} "
        f"(budget.minutes), which would be trainer.max_epochs={fitting}: another run, to be compared with runs of as many epochs only"
    )
