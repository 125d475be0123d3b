"""Table 4: a step of molecular dynamics and its memory, from what ``kanmlip-bench md`` left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kanmlip.benchmark.md_record import MDCase, MDResult
from kanmlip.report.matching import Match
from kanmlip.report.printed import changed_values
from kanmlip.report.study import Column, PrintedRow, Study
from kanmlip.report.table import Cell, Note, Row, Table

_MODES = {"eager": "", "compile": ", torch.compile", "aot": ", AOTInductor", "native": ", AOTInductor with our kernels"}
_MATCHES = {"": "", "widths": "", "parameters": ", equal parameters"}


def build_md_table(study: Study, key: str, cases: Sequence[MDCase], budget: str) -> Table:
    """The paper's rows from the smallest system, then everything else that was measured.

    Args:
        study: All tables.
        key: The table's key; its spec has ``source: molecular_dynamics``.
        cases: Everything measured; those of the budget's model sizes count, those on a GPU first, those of folders last.
        budget: The budget.
    """
    spec, columns = study.tables[key], study.columns(key)
    models = {row.match.model for row in spec.rows if row.match}
    fitting = [case for case in cases if case.size == budget and case.model in models]
    ordered = sorted(fitting, key=lambda case: (case.atoms, case.device != "cuda", not case.keep_hidden, "/" in case.file, case.file))
    first = ordered[0] if ordered else None
    paper = [(_paper_row(row, columns, first), first, _result(first, row.match)) for row in spec.rows]
    taken = {id(result) for _, _, result in paper if result is not None}
    others = [(case, result) for case in ordered for result in case.results if id(result) not in taken]
    labels = Counter(_label(case, result) for case, result in others)
    extra = [(_extra_row(case, result, labels[_label(case, result)] > 1, columns), case, result) for case, result in others]
    rows = _connected([*paper, *extra])
    for number, row in enumerate(rows, start=1):
        row.number = number
    return Table(key, spec, budget, study.citation, columns, tuple(rows), _notes(study, key, ordered, rows), _facts(ordered, budget))


def _result(case: MDCase | None, match: Match | None) -> MDResult | None:
    if case is None or match is None:
        return None
    return case.find(match.placement, match.basis or "", "widths" if match.basis else "")


def _paper_row(row: PrintedRow, columns: Sequence[Column], case: MDCase | None) -> Row:
    result = _result(case, row.match)
    values = _values(result)
    missing = "no benchmark" if case is None else (result.missing or "not measured") if result else "not measured"
    cells = [
        Cell(column, _by_key(values, column), None if column.metric in values else missing, _printed(row, column)) for column in columns
    ]
    return Row(0, row.label, "benchmark", row.match, None, (), tuple(cells))


def _label(case: MDCase, result: MDResult) -> str:
    head = "MLP" if result.placement == "none" else f"{result.basis} KAN, {result.placement}"
    hidden = "" if case.keep_hidden or result.placement == "none" else ", hidden values worked out again"
    return f"{case.model}, {head}{_MATCHES[result.match]}{hidden}{_MODES[result.mode]}: {case.atoms} atoms, {case.device}"


def _extra_row(case: MDCase, result: MDResult, ambiguous: bool, columns: Sequence[Column]) -> Row:
    values = _values(result)
    label = _label(case, result) + (f", `{case.file}`" if ambiguous else "")
    match = Match(model=case.model, placement=result.placement, basis=result.basis or None)
    cells = [Cell(column, _by_key(values, column), None if column.metric in values else result.missing or "–", {}) for column in columns]
    return Row(0, label, "benchmark", match, None, (), tuple(cells), extra=True)


def _values(result: MDResult | None) -> dict[str, float]:
    """Metric of a column → value, of what was measured."""
    if result is None:
        return {}
    timing, memory = result.timing, result.memory
    found = {
        "md/ms_per_step": timing.ms_per_step if timing else None,
        "md/ratio": timing.ratio if timing else None,
        "md/low": timing.low if timing else None,
        "md/high": timing.high if timing else None,
        "md/process_less_empty": memory.process_less_empty if memory else None,
        "md/peak_allocated": memory.peak_allocated if memory else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _by_key(values: dict[str, float], column: Column) -> dict[int, float]:
    # A benchmark has no seed; any common key pairs a row with its MLP's.
    return {0: values[column.metric] * column.scale} if column.metric in values else {}


def _printed(row: PrintedRow, column: Column) -> dict[int | None, str]:
    return {None: row.printed[column.key]} if column.key in row.printed else {}


def _connected(measured: Sequence[tuple[Row, MDCase | None, MDResult | None]]) -> list[Row]:
    """The rows, each with the MLP of its own case and mode: other files and other days have other milliseconds."""
    mlps = {(id(case), result.mode): row for row, case, result in measured if result is not None and result.placement == "none"}
    for row, case, result in measured:
        if result is not None and result.placement != "none":
            row.baseline = mlps.get((id(case), result.mode))
            if result.timing is not None and result.timing.ratio is not None:
                row.interleaved = {cell.column.key: result.timing.ratio for cell in row.cells if cell.column.metric == "md/ms_per_step"}
    return [row for row, _, _ in measured]


def _notes(study: Study, key: str, cases: Sequence[MDCase], rows: Sequence[Row]) -> tuple[Note, ...]:
    notes = [Note(f"Changed printed value of '{row.label}': {difference}.", warning=True) for row, difference in changed_values(study, key)]
    notes += [Note(f"`{case.file}`, {case.atoms} atoms: the machine was not quiet.", warning=True) for case in cases if not case.quiet]
    for case in cases:
        notes += [Note(f"{case.atoms} atoms, {result.name}: {result.missing}") for result in case.results if result.missing]
    if any(row.extra for row in rows):
        notes.append(Note("Rows marked as ours have no counterpart in the paper."))
    return (*notes, *(Note(text) for text in study.tables[key].notes))


def _facts(cases: Sequence[MDCase], budget: str) -> tuple[tuple[str, str], ...]:
    facts = [("Budget", budget)]
    for case in cases:
        environment = case.environment
        hardware = environment.get("hardware") or "unknown hardware"
        commit = (environment.get("commit") or "unknown")[:10] + (" (dirty)" if environment.get("dirty") else "")
        steps = f"{case.steps:,} steps" + (f" of {case.steps_asked:,} asked for" if case.steps < case.steps_asked else "")
        what = f"{case.ensemble} at {case.temperature_K:g} K, {case.timestep_fs:g} fs, {steps} in {case.rounds} rounds"
        model = f"{case.edges:,} edges, {case.dtype}, sizes of budget {case.size}"
        facts.append((f"{case.atoms} atoms, {case.device}", f"{what}; {model}; {hardware}; commit {commit}; `{case.file}`"))
    return tuple(facts)
