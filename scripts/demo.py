"""The main job on the embedded data: train Allegro with an MLP and with a KAN output block, and print the comparison.

python scripts/demo.py [OVERRIDE ...]     overrides of kanmlip-train, such as basis=bspline trainer.max_epochs=5
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from kanmlip.experiment import results_root

SWEEP = ("-m", "model=allegro", "dataset=toy", "budget=small", "placement=none,output", "basis=gaussian")
COLUMNS = (
    ("head", "{placement}"),
    ("parameters", "{params/total:,.0f}"),
    ("test F MAE (meV/Å)", "{force:.2f}"),
    ("test E MAE (meV/atom)", "{energy:.3f}"),
    ("s/epoch", "{time/per_epoch_s:.2f}"),
)


def main(overrides: list[str]) -> int:
    """Run the sweep, then print one row a run; returns the sweep's exit code."""
    before = set(records())
    command = [sys.executable, "-c", "from kanmlip.cli.train import main; main()", *SWEEP, *overrides]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        return code
    print_table(newest(before))
    return 0


def records() -> list[Path]:
    """Every record so far."""
    return sorted((results_root() / "records").glob("*.json"))


def newest(before: set[Path]) -> list[Path]:
    """Records of this sweep; finished runs of an earlier one were skipped, so those of the demo's kind if none is new."""
    new = [path for path in records() if path not in before]
    return new or [path for path in before if path.name.startswith(("allegro-none-mlp-toy", "allegro-output-"))]


def print_table(paths: list[Path]) -> None:
    """A Markdown table, and what it rests on."""
    loaded = sorted((json.loads(path.read_text()) for path in paths), key=lambda record: record["labels"]["placement"] != "none")
    print("\n| " + " | ".join(heading for heading, _ in COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for record in loaded:
        metrics, labels = record["metrics"], record["labels"]
        values = {
            **metrics,
            "placement": "MLP" if labels["basis"] is None else f"{labels['basis']} KAN in {labels['placement']}",
            "force": 1e3 * metrics["test/force_mae_eV_per_A"],
            "energy": 1e3 * metrics["test/energy_mae_eV_per_atom"],
        }
        print("| " + " | ".join(template.format_map(values) for _, template in COLUMNS) + " |")
    first = loaded[0]
    environment = first["environment"]
    print(
        f"\n{first['data']['label']}\n{environment['hardware']}, {environment['threads']} thread(s), one seed: no more than a demonstration"
    )
    print(f"Run folders: {results_root() / 'runs'}; records: {results_root() / 'records'}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
