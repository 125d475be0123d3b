"""The embedded and the published sets."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from kanmlip.cli.data import main
from kanmlip.data.catalogue import catalogue, download, whole_dataset
from kanmlip.data.labels import attach
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.root import data_root
from kanmlip.data.statistics import check_species, compute_statistics
from kanmlip.data.toy import Toy, silver_with_vacancy, simulate
from kanmlip.errors import DataError

REAL = ("ag", "hfo2", "carbon")


def real(name: str, repository: Path, **settings: int):
    dataset = whole_dataset(repository / "conf", name)
    missing = [path for path in (data_root() / dataset.folder / file for file in dataset.files.values()) if not path.is_file()]
    if missing:
        pytest.skip(f"the data root {data_root()} lacks {missing[0].name} of dataset={name}; set KANMLIP_DATA")
    return dataset.model_copy(update=settings)


def test_toy_is_the_papers_cell_with_consistent_labels_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    toy = Toy(name="toy", n_frames=6, interval=2, equilibration=4)
    splits = toy.load(tmp_path)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [4, 1, 1]
    assert len(silver_with_vacancy()) == 71
    np.testing.assert_allclose(silver_with_vacancy().cell.lengths(), [12.4815, 12.4815, 8.321])
    atoms = splits.train[2].copy()
    atoms.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(splits.train[2].get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), splits.train[2].get_forces(), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), splits.train[2].get_stress(), atol=1e-6)
    first, second = simulate(toy), simulate(toy)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, second, strict=True))
    assert toy.fingerprint(tmp_path) != toy.model_copy(update={"trajectory_seed": 8}).fingerprint(tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_real_sets_load_a_named_subset_with_labels(name: str, repository: Path) -> None:
    dataset = real(name, repository, n_train=4, n_val=3)
    splits = dataset.load(data_root())
    assert len(splits.train) == 4
    assert "4 of" in splits.subset
    assert splits.subset in splits.label
    assert splits.stand_in == (name != "hfo2")
    stats = compute_statistics(build_graphs(splits.train, 4.0), 4.0)
    assert 0.1 < stats.force_rms < 10
    assert dataset.load(data_root()).indices == splits.indices
    other = dataset.model_copy(update={"subset_seed": 1}).load(data_root())
    assert other.indices["train"] != splits.indices["train"]


def test_the_carbon_stand_in_is_a_partition(repository: Path) -> None:
    splits = real("carbon", repository).load(data_root())
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [310, 50, 90]
    parts = [
        {atoms.positions.tobytes() + np.asarray(atoms.cell).tobytes() for atoms in part} for part in (splits.train, splits.val, splits.test)
    ]
    # The source itself has one structure twice (frames 342 and 343 of the training file); across the parts nothing repeats.
    assert len(set.union(*parts)) == sum(map(len, parts)) == 449


def test_a_file_with_another_checksum_is_refused_unless_asked_for(repository: Path, tmp_path: Path) -> None:
    dataset = whole_dataset(repository / "conf", "ag")
    with pytest.raises(DataError, match=r"dataset=ag is not under the data root.*KANMLIP_DATA.*doi"):
        dataset.check(tmp_path)
    for name in dataset.files.values():
        (tmp_path / "ag").mkdir(exist_ok=True)
        (tmp_path / "ag" / name).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"sha256.*dataset.verify=false"):
        dataset.check(tmp_path)
    dataset.model_copy(update={"verify": False}).check(tmp_path)


def test_reference_energies_are_least_squares_and_of_minimum_norm_for_one_composition(silver) -> None:
    graphs = build_graphs(silver, 3.5)
    stats = compute_statistics(graphs, 3.5)
    assert stats.atomic_numbers == (47,)
    assert stats.reference_energies[47] == pytest.approx(np.mean([a.get_potential_energy() / 16 for a in silver]))
    assert stats.force_rms == pytest.approx(np.sqrt(np.mean([a.get_forces() ** 2 for a in silver])))
    assert stats.avg_num_neighbors == pytest.approx(sum(g.edge_index.shape[1] for g in graphs) / 64)
    mixed = []
    for atoms in silver[:2]:
        other = atoms.copy()
        other.numbers[:8] = 79
        mixed.append(attach(other, {"energy": np.asarray(atoms.get_potential_energy())}))
    energies = compute_statistics(build_graphs(mixed, 3.5), 3.5).reference_energies
    assert energies[47] == pytest.approx(energies[79])
    with pytest.raises(DataError, match=r"frame 0 of the val set has species Z=\[79\]"):
        check_species(build_graphs(mixed, 3.5), stats, "val")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.xyz").write_bytes(b"content")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_a_download_is_kept_only_with_the_right_checksum(server: str, tmp_path: Path) -> None:
    target = tmp_path / "here" / "file.xyz"
    with pytest.raises(DataError, match="sha256"):
        download(f"{server}/file.xyz", target, "0" * 64)
    with pytest.raises(DataError, match="cannot be fetched"):
        download(f"{server}/absent.xyz", target, "0" * 64)
    assert list(target.parent.iterdir()) == []
    download(f"{server}/file.xyz", target, hashlib.sha256(b"content").hexdigest())
    assert target.read_bytes() == b"content"


def test_the_command_lists_describes_and_checks(tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str], silver) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalogue(repository / "conf"))
    assert main(["info", "hfo2"]) == 0
    assert "LGPL" in capsys.readouterr().out
    assert main(["info", "hfo"]) == 2
    assert "Did you mean 'hfo2'" in capsys.readouterr().err
    import ase.io

    path = tmp_path / "my.xyz"
    ase.io.write(path, silver, format="extxyz")
    assert main(["check", str(path)]) == 0
    assert "0 problem(s)" in capsys.readouterr().out
    ase.io.write(path, [*silver, silver[1]], format="extxyz")
    assert main(["check", str(path)]) == 2
    assert "frame 4 has the structure of frame 1" in capsys.readouterr().out
    assert main(["fetch", "ag"]) in (0, 2)
