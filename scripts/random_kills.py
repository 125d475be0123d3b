"""Kill sweeps at random moments, start them again, and compare the records with those of a sweep that was left alone.

    python scripts/random_kills.py --kills 100 --log results/faults/random_kills.log

A sweep has four short runs (float64, CPU). A kill is a signal at a random moment to the worker of the run that is being made, to the
command that supervises it, or to both, as when a machine goes down; the same command is started again at once, without any other step.
Exit code 0 if every record equals the undisturbed one in everything but times and the commit, and no run lost more than one
checkpoint interval.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

REPOSITORY = Path(__file__).resolve().parents[1]
SWEEP = (
    "-m", "model=fake", "dataset=fake", "budget=smoke", "placement=none,output", "basis=bspline", "basis.backend=torch", "seed=1,2",
    "trainer.max_epochs=12", "trainer.precision=float64", "trainer.device=cpu",
)  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT)
TARGETS = ("worker", "command", "both")
DURING_RUNS = 0.85
DELAY_S = "0.02"  # of each evaluation of the fake model, so that runs take seconds
CHECKPOINT_INTERVAL = 1
# Times, who else was computing, and the state of the checkout, which somebody may edit meanwhile.
UNCOMPARED = ("started", "finished", "time/train_s", "time/per_epoch_s", "commit", "dirty", "earlier_commits", "runs_at_once", "shared")
# A run that is begun anew says nothing but the epoch that it ends first.
PROGRESS = re.compile(r"^(\S+): (?:started|resumed|started again)$|^resuming after epoch (\d+)$|^epoch 1/", re.MULTILINE)


class Process(Protocol):
    """What a start of the command gives."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, or none."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""


Start = Callable[[Path, Path], Process]


@dataclass
class Tally:
    """What happened so far.

    Attributes:
        say: Where each event goes, a line each.
        kills: Signals that reached a living process.
        starts: Of the command.
        started: When the last start was.
        sweeps: Brought to their end.
        problems: What must not happen.
        reached: Run → epochs that a kill found done.
    """

    say: Callable[[str], None]
    kills: int = 0
    starts: int = 0
    started: float = 0.0
    sweeps: int = 0
    problems: list[str] = field(default_factory=list)
    reached: dict[str, int] = field(default_factory=dict)

    def problem(self, text: str) -> None:
        """Note and say what must not happen."""
        self.problems.append(text)
        self.say(f"PROBLEM {text}")


def start_command(results: Path, output: Path) -> Process:
    """``kanmlip-train`` as a user starts it; what it prints is appended to a file."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "KANMLIP_RESULTS": str(results), "KANMLIP_TEST_DELAY": DELAY_S}
    command = [sys.executable, "-m", "kanmlip.cli.train", "--config-dir", str(REPOSITORY / "tests" / "integration" / "conf"), *SWEEP]
    with output.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def preloaded_start() -> Start:
    """Starts from forks of this process, which has imported everything: seconds less a start, and kills hit runs instead of imports."""
    sys.path.insert(0, str(REPOSITORY))
    from kanmlip.experiment.composition import Sources
    from kanmlip.experiment.folders import conf_dir
    from kanmlip.experiment.plan import make_plan
    from tests.faults import forked
    from tests.integration.application import FAKES

    jobs = make_plan(SWEEP[1:], True, Sources(conf_dir(), FAKES)).jobs or []

    def start(results: Path, output: Path) -> Process:
        return forked.start_planned(jobs, output, KANMLIP_RESULTS=str(results), KANMLIP_TEST_DELAY=DELAY_S)

    return start


def disturb(kills: int, seed: int, folder: Path, start: Start, span_s: float, say: Callable[[str], None]) -> Tally:
    """Kill until the number is reached and the last sweep is at its end.

    Args:
        kills: How many.
        seed: Of moments, signals and targets.
        folder: For the results of all sweeps; the undisturbed one is made if it is not there.
        start: Starts the command with a results root and a file for its output.
        span_s: A kill comes at most so many seconds after the first run of a start has begun.
        say: Where the log goes.
    """
    tally, chance = Tally(say), random.Random(seed)
    calm = folder / "undisturbed"
    if start(calm, folder / "undisturbed.out").wait(timeout=600) != 0:
        tally.problem("the undisturbed sweep failed: " + (folder / "undisturbed.out").read_text()[-2000:])
        return tally
    expected = records(calm)
    while tally.kills < kills and not tally.problems:
        results = folder / f"seed{seed}-sweep{tally.sweeps}"
        _finish_despite_kills(kills, chance, results, start, span_s, tally)
        compare(expected, records(results), tally)
        leftovers = [str(path.relative_to(results)) for path in results.rglob(".*") if path.is_file()]
        if leftovers:
            tally.problem(f"left behind: {', '.join(leftovers)}")
        tally.sweeps += 1
        say(f"sweep {tally.sweeps} done after {tally.kills} kills: {len(expected)} records equal to the undisturbed ones")
    return tally


def _finish_despite_kills(kills: int, chance: random.Random, results: Path, start: Start, span_s: float, tally: Tally) -> None:
    """Start one sweep again and again, with kills as long as any are left, until it says that all is done."""
    output = results.with_suffix(".out")
    tally.reached = {}
    fruitless = 0
    while fruitless < 3:
        size = output.stat().st_size if output.exists() else 0
        command = start(results, output)
        reached = dict(tally.reached)
        tally.starts += 1
        tally.started = time.monotonic()
        killed = tally.kills < kills and _kill_once(command, chance, results, span_s, tally)
        code = command.wait(timeout=600)
        text = output.read_text(errors="replace")
        _check_progress(output.read_bytes()[size:].decode(errors="replace"), reached, tally, text)
        if code == 0:
            return
        # After a kill another start is all that is needed; without one there is no excuse.
        fruitless = 0 if killed else fruitless + 1
        if not killed:
            tally.problem(f"exit code {code} without a kill: " + output.read_text(errors="replace")[-2000:])


def _kill_once(command: Process, chance: random.Random, results: Path, span_s: float, tally: Tally) -> bool:
    moment, number, target = chance.uniform(0, span_s), chance.choice(SIGNALS), chance.choice(TARGETS)
    # Most kills come while a run is made; some while the sweep is composed or validated.
    waiting = chance.random() < DURING_RUNS
    begin = time.monotonic()
    while waiting or time.monotonic() - begin < moment:
        if command.poll() is not None:
            return False
        if waiting and working_on(results, command.pid)[1] is not None:
            begin, waiting = time.monotonic(), False
        time.sleep(0.005)
    since = time.monotonic() - tally.started
    run, worker = working_on(results, command.pid)
    victims = [pid for name, pid in (("command", command.pid), ("worker", worker)) if target in (name, "both") and pid is not None]
    before = epochs_done(results)
    if command.poll() is not None:
        return False
    for pid in victims or [command.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    tally.kills += 1
    tally.reached |= before
    what = target if victims else "command"
    where = f"in epoch {before.get(run, 0) + 1} of {run}" if run else "between runs or before the first"
    tally.say(f"kill {tally.kills}: {signal.Signals(number).name} to {what}, {since:.2f} s after start {tally.starts}, {where}")
    return True


def _check_progress(output: str, reached: dict[str, int], tally: Tally, said: str = "") -> None:
    """Compare the epoch that each run of a start went on from with what was done of it at the kills before."""
    run = None
    for match in PROGRESS.finditer(output):
        if match[1]:
            run = match[1]
        elif run is not None:
            # One that was killed before it said this says it at its next start.
            if (lost := reached.get(run, 0) - int(match[2] or 0)) > CHECKPOINT_INTERVAL:
                tally.problem(f"{run} lost {lost} epochs; this and the start before said: {said[-6000:]}")
            run = None


def working_on(results: Path, command: int) -> tuple[str | None, int | None]:
    """Name and worker of the run that a command is making, if any."""
    for path in results.glob("runs/*/status.json"):
        try:
            status = json.loads(path.read_text())
            pid = status["pid"]
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) if pid else None
        except (OSError, ValueError, KeyError):
            continue
        if parent == command:
            return path.parent.name, int(pid)
    return None, None


def epochs_done(results: Path) -> dict[str, int]:
    """Run → rows of its history."""
    return {path.parent.name: sum(1 for _ in csv.DictReader(path.open())) for path in results.glob("runs/*/history.csv")}


def records(results: Path) -> dict[str, Any]:
    """Run → record."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("records/*.json"))}


def compare(expected: dict[str, Any], found: dict[str, Any], tally: Tally) -> None:
    """Every number and every word, to the last bit; only times may differ."""
    if expected.keys() != found.keys():
        tally.problem(f"records of {sorted(found)}, not of {sorted(expected)}")
        return
    for run, record in expected.items():
        for (key, one), (other_key, other) in zip(timeless(record), timeless(found[run]), strict=False):
            if key != other_key or one != other:
                tally.problem(f"{run}: {key}={one!r} undisturbed, {other_key}={other!r} after the kills")


def timeless(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a record without times and without the state of the checkout."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name not in UNCOMPARED:
                yield from timeless(value, f"{key}/{name}")
        yield key, len(content)
    elif isinstance(content, list):
        yield key, len(content)
        for index, value in enumerate(content):
            yield from timeless(value, f"{key}/{index}")
    else:
        yield key, content


def main() -> int:
    """Run the command line; the log is appended to, so that many kills can be made in several goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of moments, signals and targets")
    parser.add_argument(
        "--span", type=float, default=12.0, help="a kill comes at most so many seconds after the first run of a start has begun"
    )
    parser.add_argument("--preloaded", action="store_true", help="start from forks of a process that has imported everything")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)
        if options.log is not None:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            with options.log.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    start = preloaded_start() if options.preloaded else start_command
    say(f"# --kills {options.kills} --seed {options.seed} --span {options.span:g}{' --preloaded' if options.preloaded else ''}")
    # Not a TemporaryDirectory: a fork that an interrupt throws out of its work must not clear it away.
    folder = Path(tempfile.mkdtemp(prefix="kanmlip-kills-"))
    tally = disturb(options.kills, options.seed, folder, start, options.span, say)
    if tally.problems:
        print(f"everything is kept in {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    say(f"# {tally.kills} kills, {tally.starts} starts, {tally.sweeps} sweeps of four runs, {len(tally.problems)} problem(s)")
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
