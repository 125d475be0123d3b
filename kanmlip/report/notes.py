"""What a reader must know about a table: what its rows rest on, and where they do not rest on the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kanmlip.report.grouping import Group, describe_status, differing_keys
from kanmlip.report.records import Record
from kanmlip.report.study import PrintedRow
from kanmlip.report.table import Note, Row, simple_metric

# Sections of the science config that the rows of one table should share; placement and basis are what rows vary.
SHARED_SECTIONS = ("model", "dataset", "trainer", "budget")
# Relative difference that rounding on another machine may make in a least-squares fit.
SAME = 1e-4
SOFTWARE = ("python", "torch", "nequip", "nequip-allegro", "allegro", "mace-torch", "mace", "e3nn", "lightning", "numpy", "kanmlip")


@dataclass(frozen=True)
class Facet:
    """A property that all records of a table should share: how it is called, and its text for one record."""

    name: str
    warning: str
    of: Callable[[Record], str]


FACETS = (
    Facet("Data", "Mixed data", lambda record: _data_text(record)),  # noqa: PLW0108 - defined below
    Facet("Commit", "Mixed commits", lambda record: _commit_text(record)),  # noqa: PLW0108 - defined below
    Facet("Hardware", "Mixed hardware (times are not comparable)", lambda record: record.environment.hardware or "unknown hardware"),
    Facet("Device", "Mixed devices (times are not comparable)", lambda record: record.environment.device or "unknown device"),
    Facet("Threads", "Mixed thread counts (times are not comparable)", lambda record: _or_unknown(record.environment.threads)),
    Facet("Software", "Mixed software versions", lambda record: _software_text(record)),  # noqa: PLW0108 - defined below
    Facet("Epochs", "Different numbers of epochs", lambda record: _count(record, "time/epochs")),
    Facet("Updates", "Different numbers of updates", lambda record: _count(record, "time/updates")),
)


class Notebook:
    """Collects notes, gives letters and marks the rows concerned."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._lettered = 0

    def add(self, text: str, rows: Iterable[Row] = (), warning: bool = False) -> None:
        """Append a note; with rows it gets the next letter (a, b, … z, aa, ab, …), which they carry."""
        concerned = list(rows)
        letter = None
        if concerned:
            letter = _letter(self._lettered)
            self._lettered += 1
        for row in concerned:
            row.marks.append(letter or "")
        self.notes.append(Note(text, letter, warning))


def write_notes(rows: Sequence[Row], general: Sequence[str], changed: Sequence[tuple[PrintedRow, str]] = ()) -> tuple[Note, ...]:
    """All notes of a table: warnings about the paper's values and mixtures, then set-aside and unfinished runs, then the study's own.

    Args:
        rows: The table's rows, which get marks.
        general: What the study's file says.
        changed: Printed values that are not those of the second transcription.
    """
    book = Notebook()
    for printed, difference in changed:
        concerned = [row for row in rows if (row.label, row.seed) == (printed.label, printed.match.seed if printed.match else None)]
        book.add(f"Changed printed value in {_row_names(concerned)}: {difference}.", concerned, warning=True)
    with_runs = [row for row in rows if row.records and row.averages]
    for facet in FACETS:
        _note_mixture(book, facet, with_runs)
    _note_seeds(book, with_runs)
    _note_settings(book, with_runs)
    _note_spoilt_times(book, with_runs)
    late = [row for row in with_runs if any(record.out_of_time for record in row.records)]
    if late:
        book.add(f"Ended by trainer.max_minutes before their last epoch: runs of {_row_names(late)}.", late, warning=True)
    dirty = [row for row in with_runs if any(record.environment.dirty for record in row.records)]
    if dirty:
        book.add(f"Made with uncommitted changes: {_row_names(dirty)}. Such a run cannot be traced to its commit.", dirty, warning=True)
    for row in rows:
        if row.averages:
            _note_runs_set_aside(book, row)
        elif row.simple is not None:
            _note_disagreement(book, row, row.simple, rows)
    for text in general:
        book.add(text)
    return tuple(book.notes)


def write_facts(rows: Sequence[Row], budget: str) -> tuple[tuple[str, str], ...]:
    """Provenance of a table as (name, text) lines; empty but for the budget where it has no record."""
    records = {record.run_id: record for row in rows for record in row.records}
    facts = [("Budget", budget)]
    if not records:
        return tuple(facts)
    used = [records[name] for name in sorted(records)]
    facts.append(("Runs", f"{len(used)}, seeds {', '.join(map(str, sorted({record.labels.seed for record in used})))}"))
    for facet in FACETS:
        facts.append((facet.name, "; ".join(sorted({_with_dirt(facet, record) for record in used}))))
    sizes = [f"row {row.number}: {_sizes(row)}" for row in rows if row.averages and row.records]
    facts.append(("Parameters, total / in KAN heads", "; ".join(sizes)))
    return tuple(facts)


def _with_dirt(facet: Facet, record: Record) -> str:
    return facet.of(record) + (" (dirty)" if facet.name == "Commit" and record.environment.dirty else "")


def _note_mixture(book: Notebook, facet: Facet, rows: Sequence[Row]) -> None:
    """Warn where records differ in a facet; marked are the rows that do not rest on the most common value alone."""
    by_row = {row.number: {facet.of(record) for record in row.records} for row in rows}
    counts = Counter(value for row in rows for value in sorted(by_row[row.number]))
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    odd = [row for row in rows if by_row[row.number] != {usual}]
    parts = [f"{value} in {_row_names([row for row in rows if value in by_row[row.number]])}" for value in counts]
    book.add(f"{facet.warning}: {'; '.join(parts)}.", odd, warning=True)


def _note_spoilt_times(book: Notebook, rows: Sequence[Row]) -> None:
    """Name the runs whose times are left out (``Record.spoilt_by``)."""
    reasons: dict[str, set[str]] = {}
    for row in rows:
        for record in row.records:
            if (reason := record.spoilt_by("time/train_s")) is not None:
                reasons.setdefault(reason, set()).add(record.run_id)
    for reason, names in sorted(reasons.items()):
        spoilt = [row for row in rows if any(record.run_id in names for record in row.records)]
        book.add(f"Times left out, {reason}: {_quoted(sorted(names))}.", spoilt, warning=True)


def _note_seeds(book: Notebook, rows: Sequence[Row]) -> None:
    seeds = {row.number: tuple(record.labels.seed for record in row.records) for row in rows}
    counts = Counter(seeds[row.number] for row in rows)
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    parts = [f"{', '.join(map(str, value))} in {_row_names([row for row in rows if seeds[row.number] == value])}" for value in counts]
    book.add(f"Different seeds: {'; '.join(parts)}.", [row for row in rows if seeds[row.number] != usual], warning=True)


def _note_settings(book: Notebook, rows: Sequence[Row]) -> None:
    """Warn where rows differ in more than placement and basis, for then they do not compare heads alone."""
    if not rows:
        return
    reference = shared_settings(rows[0].records[0])
    for row in rows[1:]:
        keys = differing_keys(reference, shared_settings(row.records[0]))
        if keys:
            shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            book.add(f"{_row_names([row])} differs from row {rows[0].number} in settings besides the head: {shown}.", [row], warning=True)


def _note_runs_set_aside(book: Notebook, row: Row) -> None:
    if row.selection is None:
        return
    chosen = row.selection.chosen
    for group in row.selection.others:
        keys = _group_difference(chosen, group)
        book.add(
            f"{_row_names([row])}: {len(group.by_seed)} finished run(s) of other settings are not averaged in "
            f"({keys}): {_quoted(group.run_ids)}.",
            [row],
        )
    repeats = sorted(record.run_id for group in (chosen, *row.selection.others) if group for record in group.repeats)
    if repeats:
        book.add(f"{_row_names([row])}: of several runs with the same seed the last finished counts; not used: {_quoted(repeats)}.", [row])
    if row.records and row.selection.unfinished:
        runs = "; ".join(f"`{run.run_id}` ({describe_status(run.status)})" for run in row.selection.unfinished)
        book.add(f"{_row_names([row])}: not in the mean, because not finished: {runs}.", [row])


def _note_disagreement(book: Notebook, row: Row, name: str, rows: Sequence[Row]) -> None:
    """Warn where runs of one table recorded different errors of the same prediction: they cannot have had the same data."""
    records = {record.run_id: record for other in rows for record in other.records}
    for cell in row.cells:
        if cell.column.kind == "duration":
            continue
        values = [value for record in records.values() if (value := record.value(simple_metric(name, cell.column.metric))) is not None]
        if values and max(values) - min(values) > SAME * max(values):
            source = row.records[0].run_id
            book.add(
                f"{_row_names([row])}: its runs do not agree on {cell.column.heading} ({min(values):.5g} to {max(values):.5g}), so that "
                f"they had different data; printed is that of `{source}`.",
                [row],
                warning=True,
            )
            return


def _group_difference(chosen: Group | None, other: Group) -> str:
    if chosen is None:
        return "none chosen"
    first, second = next(iter(chosen.by_seed.values())), next(iter(other.by_seed.values()))
    keys = [key for key in differing_keys(first.config, second.config) if key != "seed"]
    if first.environment.dataset_sha256 != second.environment.dataset_sha256:
        keys.append("dataset sha256")
    return "they differ in " + (", ".join(keys[:8]) or "what the same settings computed then")


def shared_settings(record: Record) -> dict[str, Any]:
    """Settings that rows which are compared should share: all but the head's."""
    return {name: record.config[name] for name in SHARED_SECTIONS if name in record.config}


def _row_names(rows: Sequence[Row]) -> str:
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(str(row.number) for row in rows)}"


def _quoted(run_ids: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in run_ids)


def _letter(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _data_text(record: Record) -> str:
    frames = "/".join(_or_unknown(number) for number in (record.data.n_train, record.data.n_val, record.data.n_test))
    sha = (record.environment.dataset_sha256 or "unknown")[:10]
    stand_in = "stand-in data: " if record.data.stand_in else ""
    return f"{stand_in}{record.data.label} ({frames} frames train/val/test, sha256 {sha})"


def _commit_text(record: Record) -> str:
    """The commit a run ended with; one that was resumed after a change of the code names those it began with."""
    text = (record.environment.commit or "unknown commit")[:10]
    earlier = [commit[:10] for commit in record.environment.earlier_commits]
    return f"{text} (resumed, begun at {', '.join(earlier)})" if earlier else text


def _software_text(record: Record) -> str:
    versions = record.environment.versions
    return ", ".join(f"{name} {versions[name]}" for name in SOFTWARE if versions.get(name)) or "unknown software"


def _count(record: Record, metric: str) -> str:
    value = record.value(metric)
    return "unknown" if value is None else f"{value:.0f}"


def _or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _sizes(row: Row) -> str:
    texts = []
    for metric in ("params/total", "params/head"):
        values = sorted({value for record in row.records if (value := record.value(metric)) is not None})
        texts.append(" or ".join(f"{value:,.0f}" for value in values) or "?")
    return " / ".join(texts)
