"""What was found about the paper itself, each finding with evidence computed from its printed values, the data, or our records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanmlip.report.claims import Part
from kanmlip.report.duration import format_duration
from kanmlip.report.effects import paper_effect
from kanmlip.report.grouping import select
from kanmlip.report.matching import Match
from kanmlip.report.paired import paired_ratio, spread
from kanmlip.report.records import Evidence, Record
from kanmlip.report.step_benchmark import step_cost
from kanmlip.report.study import Study
from kanmlip.report.wording import counted

NO_FACTS = "The data's own figures are not at hand (`kanmlip-tables --facts` computes them where the data are)."


@dataclass(frozen=True)
class Material:
    """What findings are computed from."""

    study: Study
    evidence: Evidence
    facts: Mapping[str, Mapping[str, Any]]
    benchmarks: Path

    def printed(self, table: str, column: str, placement: str, basis: str | None = None) -> list[float]:
        """The paper's values of a row, one a seed, in the column's unit."""
        found = next(item for item in self.study.columns(table) if item.key == column)
        wanted = (placement, basis)
        rows = [row for row in self.study.tables[table].rows if row.match and (row.match.placement, row.match.basis) == wanted]
        return [found.parse(row.printed[column]) for row in rows if column in row.printed]

    def runs(self, table: str, placement: str, basis: str | None, budget: str) -> dict[int, Record]:
        """Our runs of a row by seed, as the table itself chooses them."""
        spec = self.study.tables[table]
        model = next(row.match.model for row in spec.rows if row.match)
        match = Match(model=model, placement=placement, basis=basis)
        chosen = select(self.evidence, match, spec.dataset, budget, spec.where, spec.stand_ins).chosen
        return chosen.by_seed if chosen else {}

    @property
    def budgets(self) -> list[str]:
        """Those whose runs are more than a trial of the program."""
        return sorted({run.labels.budget for run in self.evidence.records} - {"smoke"})

    def fact(self, dataset: str, name: str) -> Any:
        """A stored fact; None where there is none."""
        return self.facts.get(dataset, {}).get(name)


def findings_section(study: Study, evidence: Evidence, facts: Mapping[str, Mapping[str, Any]], benchmarks: Path) -> str:
    """All findings as Markdown; one whose table is not in the study is left out."""
    material = Material(study, evidence, facts, benchmarks)
    blocks = []
    for title, tables, tell in FINDINGS:
        if all(table in study.tables for table in tables):
            blocks += [f"### {title}", "\n".join(f"- {line}" for line in tell(material))]
    return "\n\n".join(blocks)


def energy_unit(material: Material) -> list[str]:
    """Tables 2, 3, 5 and 6 print energies as eV/atom; they must be per cell."""
    lines = []
    for dataset, table in (("ag", "3"), ("hfo2", "5")):
        printed = 1e3 * material.printed(table, "val_energy", "none")[0]
        atoms, mean_mae = material.fact(dataset, "atoms"), material.fact(dataset, "energy_mean_mae_meV_per_atom")
        if atoms is None or mean_mae is None:
            lines.append(NO_FACTS)
            continue
        frames, std = material.fact(dataset, "frames"), material.fact(dataset, "energy_std_meV_per_atom")
        lines.append(
            f"Table {table} prints {printed / 1e3:g} eV/atom for the MLP, {printed:.0f} meV/atom. Over the {frames} validation frames of "
            f"{dataset} energies spread by {std:.3g} meV/atom (standard deviation) and predicting their mean scores {mean_mae:.3g}: "
            f"as printed, the model is {printed / mean_mae:.2g} times as wrong as that. Per cell of {atoms[1]} atoms the figure is "
            f"{printed / atoms[1]:.2g} meV/atom, which such models reach."
        )
    remark = "Our labels of Ag are a stand-in (UNEP-v1) on structures of the same kind; those of HfO2 are the published ones."
    return [*dict.fromkeys(lines), remark]


def stress_column(material: Material) -> list[str]:
    """Table 7's stress errors are those of predicting zero."""
    values = material.printed("7", "test_stress", "none") + material.printed("7", "test_stress", "output", "bspline")
    rms, frames = material.fact("carbon", "stress_rms_meV_per_A3"), material.fact("carbon", "frames")
    lines = [f"Table 7 prints {min(values):.1f} to {max(values):.1f} meV/Å³ for all {len(values)} models."]
    if rms is None:
        lines.append(NO_FACTS)
    else:
        lines.append(
            f"Predicting zero stress on the paper's {frames} test frames scores {rms:.1f} meV/Å³ (all nine components): the column says "
            "nothing about the models."
        )
    runs = [run for run in material.evidence.records if run.labels.dataset == "carbon" and run.labels.budget != "smoke"]
    ours = [(run.value("test/stress_rmse_meV_per_A3"), run.value("test/stress_zero_rmse_meV_per_A3")) for run in runs]
    ratios = [value / zero for value, zero in ours if value is not None and zero]
    if ratios:
        trained = sum(bool(run.config.get("trainer", {}).get("loss", {}).get("stress")) for run in runs)
        how = "none of which trained on stress" if not trained else f"of which {trained} trained on stress"
        lines.append(f"Our {len(ratios)} runs on carbon, {how}, score {min(ratios):.2f} to {max(ratios):.2f} times predicting zero.")
    return lines


def three_parameters(material: Material) -> list[str]:
    """The SiO2 set is one family of crystals."""
    simple = {
        "the mean tensor of each species": "baseline/species_mean/test/bec_mae_e",
        "a polynomial of degree 3": "baseline/polynomial_3/test/bec_mae_e",
        "one of degree 7": "baseline/polynomial_7/test/bec_mae_e",
    }
    lines = ["All structures of the set have space group I-42d, in which a, c and the oxygen's x fix everything."]
    runs = [run for budget in material.budgets for run in material.runs("9", "none", None, budget).values()]
    run = next((run for run in runs if all(run.value(metric) for metric in simple.values())), None)
    if run is None:
        return [*lines, "No record says what polynomials in these three score."]
    scores = {text: run.value(metric) or 0.0 for text, metric in simple.items()}
    texts = "; ".join(f"{text} scores {value:.5f} e" for text, value in scores.items())
    lines.append(f"Without a network, fitted on the training set (test error of the charges, recorded by `{run.run_id}`): {texts}.")
    best = min(material.printed("9", "test_mae", "none") + material.printed("9", "test_mae", "output", "gaussian"))
    times = scores["one of degree 7"] / best
    lines.append(
        f"The paper's best model, at {best:.5f} e, is {times:.2f} times as accurate as that last polynomial. It prints no baseline."
    )
    return lines


def time_step(_: Material) -> list[str]:
    """A time step of 1 ps cannot have been used."""
    from ase import units
    from ase.data import atomic_masses, atomic_numbers, reference_states

    number, temperature = atomic_numbers["Ag"], 300.0
    path = math.sqrt(3 * units.kB * temperature / atomic_masses[number]) * 1000 * units.fs
    neighbours = float(reference_states[number]["a"]) / math.sqrt(2)
    return [
        f"The text gives a time step of 1 ps for molecular dynamics of Ag at {temperature:.0f} K.",
        f"There an atom of Ag moves {path:.2f} Å in 1 ps at its root mean squared thermal velocity, {path / 1000:.4f} Å in 1 fs, "
        f"and its neighbours are {neighbours:.2f} Å away. The step must have been 1 fs, which is what we use.",
    ]


def longer_training(material: Material) -> list[str]:
    """Table 3 against the text."""
    mlp, output = (material.printed("3", "time", *row)[0] for row in (("none",), ("output", "gaussian")))
    others = [material.printed("3", "time", placement, "gaussian")[0] for placement in ("besides_output", "all")]
    lines = [
        f"Table 3 prints {format_duration(output)} for the KAN in the output block of Allegro on Ag, {output / mlp:.2f} times the MLP's "
        f"{format_duration(mlp)}, while {' and '.join(map(format_duration, others))} are printed where more of the model is KANs; the text "
        f"says that this placement speeds training up."
    ]
    cost = step_cost(material.benchmarks, Match(model="allegro", placement="output", basis="gaussian"), "gpu")
    if cost is not None:
        ratio = f"{cost.ratio:.2f} [{cost.low:.2f}, {cost.high:.2f}]"
        explains = "could explain it" if cost.high >= output / mlp else "does not explain it"
        lines.append(
            f"The cost of an update {explains}: with ours it is {ratio} times the MLP's (`{cost.file}`, {cost.device}). There is also "
            "the number of epochs, and the paper does not state its stopping rule."
        )
    return lines


def worse_basis(material: Material) -> list[str]:
    """Table 9's B-spline row."""
    mlp, bspline = material.printed("9", "test_mae", "none")[0], material.printed("9", "test_mae", "output", "bspline")[0]
    lines = [
        f"Printed are {bspline:.5f} e for the B-spline KAN and {mlp:.5f} e for the MLP, {bspline / mlp:.3f} times; no seeds are given."
    ]
    for budget in material.budgets:
        rows = [material.runs("9", "output", "bspline", budget), material.runs("9", "none", None, budget)]
        ours, theirs = (_values(runs, "test/bec_mae_e") for runs in rows)
        common = sorted(ours.keys() & theirs.keys())
        ratio = paired_ratio({seed: ours[seed] for seed in common}, {seed: theirs[seed] for seed in common})
        if ratio is not None:
            means = [statistics.fmean(values[seed] for seed in common) for values in (ours, theirs)]
            texts = f"{means[0]:.5f} against {means[1]:.5f} e, {ratio.value:.3f} times"
            lines.append(f"Ours (budget {budget}, {counted(len(common), 'seed')}, each with the MLP of the same): {texts}.")
    return lines


def complexity_of_energies(material: Material) -> list[str]:
    """The paper's own values against its claim that the gain grows with complexity."""
    kan, mlp = Match(model="allegro", placement="output", basis="gaussian"), Match(model="allegro", placement="none")
    lines = []
    for column, name in (("val_force", "forces"), ("val_energy", "energies")):
        parts = Part(label="", kind="gain", table="5", against="3", column=column, of=kan, over=mlp, direction="higher")
        difference = paper_effect(parts, material.study)
        gains = []
        for table in ("3", "5"):
            ours, theirs = material.printed(table, column, "output", "gaussian")[0], material.printed(table, column, "none")[0]
            gains.append(100 * (1 - ours / theirs))
        if difference is not None:
            text = f"{gains[0]:.1f} % on Ag and {gains[1]:.1f} % on HfO2, {100 * difference:+.1f} points"
            lines.append(f"By its own printed values the gain in {name} is {text}.")
    return [line.replace("-", "−") for line in lines]


def spread_over_seeds(material: Material) -> list[str]:
    """One seed a row but for Table 7."""
    rows = {name: material.printed("7", "test_force", *row) for name, row in (("MLP", ("none",)), ("KAN", ("output", "bspline")))}
    texts = []
    for name, values in rows.items():
        found = spread(values)
        if found is not None and found.std is not None:
            texts.append(f"{name} {found.mean:.1f} ± {found.std:.1f} meV/Å")
    difference = statistics.fmean(rows["KAN"]) - statistics.fmean(rows["MLP"])
    return [
        "Only Table 7 has more than one seed. There the test force errors are "
        f"{' and '.join(texts)}; the difference of the means, {difference:+.1f} meV/Å, is smaller than the KAN's own spread.",
        "The paper speaks of seeds nowhere else: the other rows are single runs, as far as it says.",
    ]


def basis_of_mace(_: Material) -> list[str]:
    """Text against table about the basis in MACE."""
    return [
        "The text says that pykan was used in MACE “for the Gaussian bases”; Table 7 and the released program have B-splines, "
        "which is what pykan offers. We follow the table."
    ]


FINDINGS: Sequence[tuple[str, tuple[str, ...], Callable[[Material], list[str]]]] = (
    ("The energy errors of Tables 2, 3, 5 and 6 are per cell", ("3", "5"), energy_unit),
    ("Table 7's stress column is that of predicting zero", ("7",), stress_column),
    ("The SiO2 family has three parameters", ("9",), three_parameters),
    ("The time step of 1 ps", (), time_step),
    ("Table 3's training time contradicts the text", ("3",), longer_training),
    ("Table 9's B-spline row is worse than its MLP row", ("9",), worse_basis),
    ("The gain in energies does not grow from Ag to HfO2 by the paper's own values", ("3", "5"), complexity_of_energies),
    ("One seed a row", ("7",), spread_over_seeds),
    ("Which basis MACE had", ("7",), basis_of_mace),
)


def _values(runs: Mapping[int, Record], metric: str) -> dict[int, float]:
    return {seed: value for seed, run in runs.items() if (value := run.value(metric)) is not None}
