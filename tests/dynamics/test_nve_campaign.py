"""scripts/nve_campaign.py: which runs it makes and in what order, what it skips, and what its table says."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kanmlip.experiment.folders import results_root
from kanmlip.physics.nve_table import judged, nve_markdown
from tests.models.cases import all_cases


@pytest.fixture
def campaign(repository: Path) -> Iterator[ModuleType]:
    """scripts/ is no package."""
    spec = importlib.util.spec_from_file_location("nve_campaign", repository / "scripts" / "nve_campaign.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["nve_campaign"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["nve_campaign"]


def row(campaign: ModuleType, case: Any, settings: Any, slope: float = 1e-3, **changes: Any) -> dict[str, Any]:
    """What a case that went well leaves."""
    return {
        "case": str(case), "model": case.model, "placement": case.placement, "basis": case.basis, "long": case.long, "status": "done",
        "settings": settings.of(case), "reason": None, "rough": None, "duration_ps": 2.0, "temperature_K": 590.0,
        "drift": {"slope_meV_per_atom_ps": slope, "error_meV_per_atom_ps": 1e-4}, "largest_jump_eV": 1e-9, "commit": "abc",
        "changed": False, "hardware": "a machine", "energy_span_meV_per_atom": 0.01, "force_mae_eV_per_A": 0.02, **changes,
    }  # fmt: skip


def test_every_model_placement_and_basis_is_a_case_and_the_telling_ones_come_first(campaign: ModuleType) -> None:
    names = [str(case) for case in campaign.all_cases()]
    assert len(set(names)) == len(names)
    # The same as the tests of models go through, of MACE's two styles the paper's.
    assert set(names) == {"-".join((case.model, case.placement, case.basis if case.placement != "none" else "mlp")) for case in all_cases()}
    assert names[:7] == [
        "allegro-none-mlp", "allegro-output-gaussian", "allegro-output-bspline", "allegro-all-gaussian", "allegro-all-bspline",
        "nequip-none-mlp", "mace-none-mlp",
    ]  # fmt: skip
    settings = campaign.Settings()
    assert [settings.of(case)["steps"] for case in campaign.all_cases()] == [20_000] * 5 + [2_000] * (len(names) - 5)


def test_what_is_done_is_skipped_and_the_table_is_there_after_every_row(
    campaign: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, asked = campaign.Settings(), []
    table = results_root() / "benchmarks" / "nve.md"

    def compute(case: Any, settings: Any) -> dict[str, Any] | None:
        asked.append(str(case))
        if len(asked) == 3:
            return row(campaign, case, settings, status="failed", reason="it did not want to")
        return None if len(asked) == 4 else row(campaign, case, settings)

    monkeypatch.setattr(campaign, "compute", compute)
    cases = campaign.all_cases()
    monkeypatch.setattr(campaign, "all_cases", lambda: cases)  # which takes a second
    assert campaign.main(["--only", "allegro"], settings) == 130
    assert f"3 of {len(cases)} cases" in table.read_text()
    assert "it did not want to" in table.read_text()
    # Again: the first two are there, the failed and the interrupted ones are not.
    assert campaign.main(["--only", "allegro-none"], settings) == 0
    assert campaign.main(["--only", "allegro-output"], settings) == 0
    assert asked[4:7] == ["allegro-output-bspline", "allegro-output-adaptive_gaussian", "allegro-output-chebyshev"]
    assert asked.count("allegro-none-mlp") == asked.count("allegro-output-gaussian") == 1
    # Rows of other settings do not count.
    assert campaign.main(["--only", "allegro-none"], campaign.Settings(epochs=61)) == 0
    assert asked.count("allegro-none-mlp") == 2
    capsys.readouterr()
    assert campaign.main(["--only", "nobody"], settings) == 2
    assert "--only=nobody names none" in capsys.readouterr().err


def test_a_case_that_cannot_be_trained_leaves_the_others_alone(campaign: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(case: Any, settings: Any) -> Path | None:
        if case.placement == "none":
            raise RuntimeError("no memory")
        return None

    monkeypatch.setattr(campaign, "trained", trained)
    first, second, *_ = campaign.all_cases()
    assert campaign.compute(first, campaign.Settings())["reason"] == "RuntimeError: no memory"
    assert campaign.compute(second, campaign.Settings()) is None


def test_bars_are_those_of_the_design(campaign: ModuleType) -> None:
    settings = campaign.Settings()
    cases = {str(case): case for case in campaign.all_cases()}
    mlp = row(campaign, cases["mace-none-mlp"], settings, slope=-0.04)
    allegro = row(campaign, cases["allegro-none-mlp"], settings, slope=0.001)

    def verdict(name: str, **changes: Any) -> tuple[str, str]:
        bars = judged(row(campaign, cases[name], settings, **changes), [allegro, mlp])
        return bars["drift_verdict"], bars["jump_verdict"]

    assert verdict("mace-output-gaussian", slope=0.059) == ("met", "met")  # 1.5 times its own MLP's
    assert verdict("mace-output-gaussian", slope=-0.061) == ("missed", "met")
    assert verdict("allegro-output-gaussian", slope=0.019) == ("met", "met")
    assert verdict("allegro-output-gaussian", slope=0.0201) == ("undecided", "met")
    assert verdict("allegro-output-gaussian", slope=0.03, largest_jump_eV=1.1e-6) == ("missed", "missed")
    assert verdict("allegro-output-gaussian", drift=None, largest_jump_eV=None) == ("not measured", "not measured")
    assert verdict("allegro-output-gaussian", status="unstable") == ("missed", "met")


def test_the_committed_table_is_what_its_rows_say(repository: Path) -> None:
    folder = repository / "results" / "benchmarks"
    content = json.loads((folder / "nve.json").read_text(encoding="utf-8"))
    rows = content["rows"]
    text = nve_markdown(rows, content["settings"], len(rows), "python scripts/nve_campaign.py")
    assert text == (folder / "nve.md").read_text(encoding="utf-8")
    assert [row["bars"] for row in rows] == [judged(row, rows) for row in rows]


def test_rough_heads_are_marked(campaign: ModuleType) -> None:
    settings = campaign.Settings()
    case = campaign.all_cases()[1]
    text = nve_markdown([row(campaign, case, settings, rough="its forces jump")], asdict(settings), 38, "a command")
    assert "`a command`: 1 of 38 cases" in text
    assert "| gaussian (rough) |" in text
    assert "with --force-rough: its forces jump" in text
    json.dumps(settings.of(case))
