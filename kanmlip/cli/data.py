"""``kanmlip-data``: which datasets there are, what they are, whether a file can be trained on, and getting one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanmlip.cli import answer

MOST_PROBLEMS = 20
ALWAYS_NAMED = ("energy", "forces", "stress")  # also where a file has none of them


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for wrong input."""
    options = parser().parse_args(arguments)
    return answer("kanmlip-data", lambda: options.run(options))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kanmlip-data", description="Datasets: list, describe, fetch, and check a file before training on it."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="every dataset and whether its files are there").set_defaults(run=list_datasets)
    for name, run, text in (("info", info, "where a dataset comes from and what it holds"), ("fetch", fetch_dataset, "download its files")):
        command = commands.add_parser(name, help=text)
        command.add_argument("name", metavar="NAME")
        command.set_defaults(run=run)
    check = commands.add_parser("check", help="read extended-XYZ files and name what looks wrong in each, and frames that two share")
    check.add_argument("paths", type=Path, metavar="PATH", nargs="+")
    check.add_argument("--energy-key", default="energy")
    check.add_argument("--forces-key", default="forces")
    check.add_argument("--stress-key", default="stress")
    check.add_argument("--virial-key", default=None)
    check.add_argument("--born-key", default="born_effective_charges")
    check.add_argument("--dielectric-key", default="dielectric_tensor")
    check.add_argument("--max-force", type=float, default=150.0, help="eV/Å (default %(default)s)")
    check.add_argument("--picture", type=Path, metavar="FOLDER", help="draw energies, forces and the work of forces and stress there")
    check.set_defaults(run=check_files)
    return top


def list_datasets(options: argparse.Namespace) -> int:
    """A line a dataset."""
    from kanmlip.data.catalogue import catalogue, whole_dataset
    from kanmlip.data.root import data_root
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment import conf_dir

    root = data_root()
    print(f"data root: {root} ({'there' if root.is_dir() else 'not there'}; set KANMLIP_DATA to change it)")
    for name in catalogue(conf_dir()):
        dataset = whole_dataset(conf_dir(), name)
        if dataset is None:
            print(f"  {name:<16} your own files: dataset.train=PATH; energy, forces and stress, or tensors: what they have")
            continue
        try:
            dataset.check(root)
            state = "ready"
        except KanmlipError:
            state = f"not usable (kanmlip-data info {name})"
        about = f"{', '.join(sorted(dataset.provides))}; {getattr(dataset, 'licence', 'made here, free of licences')}"
        print(f"  {name:<16} {state}; {about}{' (stand-in)' if getattr(dataset, 'stand_in', False) else ''}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Settings, origin and files of a dataset."""
    from kanmlip.data.catalogue import frame_table, whole_dataset
    from kanmlip.data.root import data_root
    from kanmlip.errors import DataError
    from kanmlip.experiment import conf_dir

    dataset = whole_dataset(conf_dir(), options.name)
    if dataset is None:
        print(f"{options.name}: your own extended-XYZ files; see conf/dataset/{options.name}.yaml for the keys")
        return 0
    for key, value in dataset.model_dump(exclude={"n_train", "n_val", "n_test"}, exclude_none=True).items():
        print(f"{key}: {value}")
    for budget, counts in frame_table(conf_dir(), options.name).items():
        print(f"frames, budget={budget}: " + ", ".join(f"{'all' if count is None else count} {split}" for split, count in counts.items()))
    print(f"labels: {', '.join(sorted(dataset.provides))}")
    try:
        print(f"fingerprint: {dataset.fingerprint(data_root())}")
    except DataError as error:
        print(f"files: {error}")
    return 0


def fetch_dataset(options: argparse.Namespace) -> int:
    """Download the missing files."""
    from kanmlip.data.catalogue import fetch, whole_dataset
    from kanmlip.data.root import data_root
    from kanmlip.errors import DataError
    from kanmlip.experiment import conf_dir

    dataset = whole_dataset(conf_dir(), options.name)
    if dataset is None:
        raise DataError(f"{options.name} has nothing to fetch: it reads your own files")
    paths = fetch(dataset, data_root())
    print("\n".join(map(str, paths)) or f"{options.name}: everything is there")
    return 0


def check_files(options: argparse.Namespace) -> int:
    """What each file holds and what looks wrong; exit code 2 if anything does."""
    from kanmlip.data.duplicates import shared
    from kanmlip.data.inspection import inspect
    from kanmlip.data.labels import LabelKeys
    from kanmlip.data.readable import is_file
    from kanmlip.errors import DataError

    for path in options.paths:
        if not is_file(path, "PATH"):
            raise DataError(f"PATH={path}: there is no such file")
    keys = LabelKeys(**{name: getattr(options, f"{name}_key") for name in LabelKeys.model_fields})
    reports = {path: inspect(path, keys, options.max_force) for path in options.paths}
    for path, report in reports.items():
        low, high = report.atoms
        print(f"{path}: {report.frames} frames of {low} to {high} atoms, {' '.join(report.species)}")
        print(f"keys in the first frame: {', '.join(report.keys) or '(none)'}")
        for name, count in report.labels.items():
            if not count and name not in ALWAYS_NAMED:
                continue
            print(f"{name}: in {count} of {report.frames} frames")
        for line in report.lines:
            print(line)
        for problem in report.problems[:MOST_PROBLEMS]:
            print(f"PROBLEM {problem}")
        if len(report.problems) > MOST_PROBLEMS:
            print(f"PROBLEM and {len(report.problems) - MOST_PROBLEMS} more")
    common = shared({path: report.structures for path, report in reports.items()})
    for problem in common:
        print(f"PROBLEM {problem}")
    count = sum(len(report.problems) for report in reports.values()) + len(common)
    if options.picture is not None:
        from kanmlip.pictures.data_check import draw_check

        print("\n".join(map(str, draw_check(reports, options.picture))))
    print(f"{count} problem(s) found")
    return 2 if count else 0


if __name__ == "__main__":
    sys.exit(main())
