"""Findings about the paper: each from its printed values, the data or our records, by the rules of the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kanmlip.report.data_facts import measure_data, read_facts, refresh_facts
from kanmlip.report.findings import findings_section
from kanmlip.report.records import read_evidence
from kanmlip.report.study import load_study
from tests.unit.test_report_claims import benchmark, pairs, run
from tests.unit.test_report_tables import write


def test_findings_follow_their_evidence(tmp_path: Path) -> None:
    evidence = read_evidence(write(tmp_path, *pairs(0.9, [1])))
    ag = {"frames": 50, "atoms": [71, 71], "energy_std_meV_per_atom": 14.0, "energy_mean_mae_meV_per_atom": 10.0}
    text = findings_section(load_study(), evidence, {"ag": ag}, tmp_path)
    assert "3.5 times as wrong" in text
    assert "0.49 meV/atom" in text
    assert "kanmlip-tables --facts" in text, "facts of HfO2 are missing here"
    assert "12.5 % on Ag and 27.0 % on HfO2, +14.5 points" in text
    assert "37.1 % on Ag and 36.6 % on HfO2, −0.6 points" in text
    assert "1.99 times the MLP's 4h 51m" in text
    assert "moves 2.63 Å in 1 ps" in text
    assert "MLP 307.8 ± 1.4 meV/Å and KAN 311.8 ± 8.1 meV/Å" in text


def test_findings_compare_the_rows_of_the_table(tmp_path: Path) -> None:
    """Seed by seed, of the split that the table is of; trials of the program are no evidence."""
    split = {"config": {"dataset": {"split": "random"}}}
    runs = []
    for seed in (1, 2, 3):
        for placement, error in (("none", 0.005 + 0.001 * seed), ("output", 0.9 * (0.005 + 0.001 * seed))):
            made = run(placement, seed, 0.02, dataset="sio2_bec", **split)
            made["labels"] |= {"model": "etgnn", "basis": "bspline" if placement == "output" else None}
            made["metrics"]["test/bec_mae_e"] = error
            runs.append(made)
    del runs[-1]  # the third seed has an MLP alone
    smoke = [json.loads(json.dumps(made)) for made in runs]
    other = json.loads(json.dumps(runs[0]))
    other["config"]["dataset"]["split"], other["run_id"] = "volume_extrapolation", "etgnn-none-mlp-sio2_bec-s1-other"
    other["metrics"]["test/bec_mae_e"] = 0.5
    for made in smoke:
        made["labels"]["budget"], made["run_id"] = "smoke", made["run_id"] + "smoke"
    text = findings_section(load_study(), read_evidence(write(tmp_path, *runs, *smoke, other)), {}, tmp_path)
    assert "Ours (budget small, 2 seeds, each with the MLP of the same): 0.00585 against 0.00650 e, 0.900 times." in text
    assert "budget smoke" not in text


@pytest.mark.parametrize(("ratio", "says"), [(1.1, "does not explain it"), (1.99, "could explain it")])
def test_the_cost_of_an_update_explains_what_it_can(ratio: float, says: str, tmp_path: Path) -> None:
    benchmark(tmp_path, ratio)
    text = findings_section(load_study(), read_evidence(write(tmp_path, *pairs(0.9, [1]))), {}, tmp_path / "benchmarks")
    assert f"The cost of an update {says}: with ours it is {ratio:.2f} [" in text


def test_facts_are_measured_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "data" / "ag").mkdir(parents=True)
    frame = '2\nLattice="9 0 0 0 9 0 0 0 9" energy={} stress="{} 0 0 0 0 0 0 0 0"\nAg 0 0 0\nAg 0 0 3\n'
    import lzma

    with lzma.open(tmp_path / "data" / "ag" / "val.extxyz.xz", "wt") as file:
        file.write(frame.format(-2.0, 0.03) + frame.format(-2.04, 0.0))
    found = measure_data(tmp_path / "data")
    assert set(found) == {"ag"}
    assert (found["ag"]["frames"], found["ag"]["atoms"]) == (2, [2, 2])
    assert found["ag"]["energy_std_meV_per_atom"] == pytest.approx(10.0)
    assert found["ag"]["stress_rms_meV_per_A3"] == pytest.approx(1e3 * (0.03**2 / 18) ** 0.5, rel=1e-4)
    (tmp_path / "facts.json").write_text('{"carbon": {"frames": 450}}')
    refresh_facts(tmp_path, tmp_path / "data")
    assert set(read_facts(tmp_path)) == {"ag", "carbon"}
