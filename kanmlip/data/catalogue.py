"""The datasets that conf/dataset describes, and getting the files of one."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from kanmlip.data.base import DatasetConfig
from kanmlip.data.published import PublishedDataset
from kanmlip.errors import DataError, describe_choice
from kanmlip.experiment.atomic import remove_abandoned
from kanmlip.experiment.messages import describe_faults
from kanmlip.schema import locate
from kanmlip.yaml_file import read_mapping

BLOCK = 1 << 20


def catalogue(conf: Path) -> dict[str, Path]:
    """Name → YAML file of every dataset.

    Args:
        conf: The configuration folder.
    """
    return {path.stem: path for path in sorted((conf / "dataset").glob("*.yaml"))}


def whole_dataset(conf: Path, name: str) -> DatasetConfig | None:
    """A dataset with all of its frames; none for one that needs a user's own settings.

    Raises:
        DataError: If there is no such dataset, or its YAML does not fit; a line for each fault.
    """
    known = catalogue(conf)
    if name not in known:
        raise DataError(describe_choice("NAME", name, known))
    fields: dict[str, Any] = read_mapping(known[name], ("_target_",))
    fields.pop("frames", None)
    if "???" in fields.values():
        return None
    for key in ("n_train", "n_val", "n_test"):
        fields[key] = None
    schema = cast("type[DatasetConfig]", locate(fields.pop("_target_"), f"dataset={name}"))
    try:
        return schema(**fields)
    except ValidationError as error:
        raise DataError(f"{known[name]}:\n{describe_faults(error, 'dataset', schema)}") from error


def frame_table(conf: Path, name: str) -> dict[str, dict[str, int | None]]:
    """Budget size → split → number of frames (none: all), as the dataset's YAML says; empty where it has no such table."""
    table: dict[str, dict[str, int | None]] = read_mapping(catalogue(conf)[name]).get("frames") or {}
    return table


def fetch(dataset: DatasetConfig, root: Path) -> list[Path]:
    """Download what is missing of a dataset that has a direct address.

    Raises:
        DataError: If there is none, or the download fails or has another checksum; nothing is left behind then.
    """
    if not isinstance(dataset, PublishedDataset):
        raise DataError(f"dataset={dataset.name} has nothing to fetch: it is made on first use, or it is your own file")
    folder = root / dataset.folder
    missing = [split for split, name in dataset.files.items() if not (folder / name).is_file()]
    if not missing:
        return []
    if dataset.address is None:
        wanted = ", ".join(str(folder / dataset.files[split]) for split in missing)
        raise DataError(
            f"no direct address is known for the files of dataset={dataset.name}; get them from doi {dataset.doi} and put them at "
            f"{wanted}, or point KANMLIP_DATA at a folder that has them. {dataset.note}"
        )
    return [
        download(f"{dataset.address}/{dataset.files[split]}", folder / dataset.files[split], dataset.sha256[split]) for split in missing
    ]


def download(address: str, path: Path, sha256: str) -> Path:
    """Fetch one file into place if, and only if, its checksum is right.

    Raises:
        DataError: Naming the address and what went wrong.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=60) as source, temporary.open("wb") as target:
            while block := source.read(BLOCK):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"{address} has sha256 {digest.hexdigest()}, not {sha256}; nothing was kept: try again, or report a changed file"
            )
        temporary.replace(path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{address} cannot be fetched: {error}; put the file at {path} by hand") from error
    finally:
        temporary.unlink(missing_ok=True)
        if made and not path.exists():
            path.parent.rmdir()
    return path
