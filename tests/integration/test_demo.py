"""The demo trains, prints its table, and its KAN head is as good as the MLP at equal epochs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.application import environment, records


@pytest.mark.slow
def test_the_kan_head_is_no_worse_than_the_mlp_at_equal_epochs(repository: Path, tmp_path: Path) -> None:
    call = [sys.executable, str(repository / "scripts" / "demo.py"), "trainer.progress_bar=false"]
    done = subprocess.run(call, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| gaussian KAN in output |" in done.stdout
    by_placement = {record["labels"]["placement"]: record["metrics"] for record in records().values()}
    mlp, kan = by_placement["none"], by_placement["output"]
    assert kan["time/epochs"] == mlp["time/epochs"]
    for split in ("val", "test"):
        assert kan[f"{split}/force_mae_eV_per_A"] <= 1.1 * mlp[f"{split}/force_mae_eV_per_A"]
    assert os.environ["KANMLIP_RESULTS"] in done.stdout
