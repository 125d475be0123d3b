"""The paper's values twice: those of reproduction.yaml held against a second transcription, so that a changed one shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from kanmlip.errors import ConfigError
from kanmlip.report.study import PrintedRow, Study, default_study_path
from kanmlip.yaml_file import read_mapping

SECOND = "printed_values.yaml"


@cache
def second_transcription(path: Path | None = None) -> dict[str, list[list[str]]]:
    """Table → rows → numbers as text, in the paper's order.

    Raises:
        ConfigError: If the file is missing or is no YAML of that form.
    """
    path = path or default_study_path().with_name(SECOND)
    content = read_mapping(path, way_out="the paper's values are checked against it: correct it")
    try:
        return {str(table): [[str(value) for value in row] for row in rows] for table, rows in content.items()}
    except TypeError as error:
        raise ConfigError(f"{path}, against which the paper's values are checked, must be table: [[value, …], …] ({error})") from error


def changed_values(study: Study, key: str) -> list[tuple[PrintedRow, str]]:
    """Rows of a table whose printed values are not those of the second transcription, each with what differs in words.

    Args:
        study: All tables.
        key: The table's key; one that the paper does not have is not checked.
    """
    expected = second_transcription().get(key)
    rows = [row for row in study.tables[key].rows if row.printed]
    columns = [column for column in study.columns(key) if column.printed_unit is not None]
    if expected is None or not rows:
        return []
    found = []
    for index, row in enumerate(rows):
        if index >= len(expected):
            found.append((row, f"the paper has no such row (it has {len(expected)})"))
            continue
        for column, text in zip(columns, expected[index], strict=False):
            if column.parse(row.printed[column.key]) != column.parse(text):
                found.append((row, f"{column.heading} is given as {row.printed[column.key]}, but the paper prints {text}"))
    if len(rows) < len(expected):
        found.append((rows[-1], f"{len(expected) - len(rows)} of the paper's {len(expected)} rows are missing"))
    return found
