"""A table as CSV: every number in full precision and where it comes from, one line a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from kanmlip.report.paired import Difference, Ratio, Spread
from kanmlip.report.records import Record
from kanmlip.report.table import Cell, Row, Table


def render_csv(table: Table) -> str:
    """All rows with the same columns; lists inside a field are joined by ``;``.

    Args:
        table: A finished table.

    Returns:
        CSV text with ``\\n`` line ends; times in seconds, other numbers in the unit that the column's name carries.
    """
    lines = [_fields(table, row) for row in table.rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _fields(table: Table, row: Row) -> dict[str, str]:
    match = row.match
    fields = {
        "table": table.key,
        "budget": table.budget,
        "row": str(row.number),
        "label": row.label,
        "kind": row.kind,
        "control": str(row.control).lower(),
        "model": match.model if match else "",
        "placement": match.placement if match else "",
        "basis": (match.basis or "") if match else "",
        "dataset": table.spec.dataset,
        "seed": str(row.seed) if row.seed is not None else "",
        "n": str(len(row.records)),
        "baseline_row": str(row.baseline.number) if row.baseline else "",
        "marks": ";".join(row.marks),
    }
    for cell in row.cells:
        fields.update(_cell_fields(row, cell))
    return {**fields, **_provenance(row)}


def _cell_fields(row: Row, cell: Cell) -> dict[str, str]:
    column = cell.column
    unit = "s" if column.kind == "duration" else column.unit
    name = f"{column.key} [{unit}]" if unit else column.key
    fields = {f"{name} ours_{part}": text for part, text in _spread(cell.ours).items()}
    fields[f"{name} missing"] = cell.missing or ""
    if column.printed_unit is not None:
        fields[f"{name} paper_printed"] = ";".join(cell.printed.values())
        fields.update({f"{name} paper_{part}": text for part, text in _spread(cell.paper).items()})
    if column.compare:
        fields.update({f"{name} {part}": text for part, text in _ratio(row.ratio(column.key), "ratio").items()})
        fields.update({f"{name} {part}": text for part, text in _difference(row.difference(column.key)).items()})
        if column.printed_unit is not None:
            paper = row.paper_ratio(column.key)
            fields[f"{name} paper_ratio"] = _number(paper.value if paper else None)
    return fields


def _provenance(row: Row) -> dict[str, str]:
    chosen = row.selection.chosen if row.selection else None
    records = row.records
    return {
        "seeds": _joined(str(record.labels.seed) for record in records),
        "epochs": _joined(_number(record.value("time/epochs")) for record in records),
        "updates": _joined(_number(record.value("time/updates")) for record in records),
        "params_total": _joined(_number(record.value("params/total")) for record in records),
        "params_head": _joined(_number(record.value("params/head")) for record in records),
        "peak_allocated_MB": _joined(_number(record.value("memory/peak_allocated_MB")) for record in records),
        "commits": _joined(record.environment.commit or "unknown" for record in records),
        "earlier_commits": _joined(" ".join(record.environment.earlier_commits) for record in records),
        "dirty": _joined(_text(record.environment.dirty) for record in records),
        "hardware": _joined(record.environment.hardware or "unknown" for record in records),
        "device": _joined(record.environment.device or "unknown" for record in records),
        "threads": _joined(_text(record.environment.threads) for record in records),
        "data_label": _joined(record.data.label for record in records),
        "stand_in": _joined(_text(record.data.stand_in) for record in records),
        "subset": _joined(record.data.subset or "" for record in records),
        "frames_train_val_test": _joined(_frames(record) for record in records),
        "dataset_sha256": _joined(record.environment.dataset_sha256 or "unknown" for record in records),
        "software": _joined(" ".join(f"{name}={version}" for name, version in sorted(_versions(record).items())) for record in records),
        "settings_key": chosen.key if chosen and records else "",
        "run_ids": ";".join(record.run_id for record in records),
        "other_run_ids": ";".join(name for group in row.selection.others for name in group.run_ids) if row.selection else "",
        "unfinished_run_ids": ";".join(f"{run.run_id}:{run.status}" for run in row.selection.unfinished) if row.selection else "",
    }


def _joined(values: Iterable[str]) -> str:
    """One value where all records agree, else one value a record in the order of ``seeds``."""
    texts = list(values)
    return texts[0] if len(set(texts)) == 1 else ";".join(texts)


def _versions(record: Record) -> dict[str, str]:
    return {name: version for name, version in record.environment.versions.items() if version}


def _frames(record: Record) -> str:
    return "/".join(_text(number) for number in (record.data.n_train, record.data.n_val, record.data.n_test))


def _text(value: bool | int | None) -> str:
    return "unknown" if value is None else str(value).lower()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _spread(value: Spread | None) -> dict[str, str]:
    if value is None:
        return {"mean": "", "std": "", "n": "0"}
    return {"mean": _number(value.mean), "std": _number(value.std), "n": str(value.n)}


def _ratio(value: Ratio | None, name: str) -> dict[str, str]:
    if value is None:
        return {name: "", f"{name}_pairs": ""}
    return {name: _number(value.value), f"{name}_pairs": str(value.n)}


def _difference(value: Difference | None) -> dict[str, str]:
    low, high = value.interval if value is not None and value.interval is not None else (None, None)
    return {
        "difference_mean": _number(value.mean if value else None),
        "difference_std": _number(value.std if value else None),
        "difference_n": str(value.n) if value else "",
        "difference_low": _number(low),
        "difference_high": _number(high),
    }
